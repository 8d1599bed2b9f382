"""Captions to token states, with the frozen text encoder, on the training device."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from animatic_export.blockout.minilm import load_minilm, minilm_folder


class CaptionEncoder:
    """Tokenises and encodes batches of captions, padded to one length."""

    def __init__(self, max_tokens: int, device: torch.device) -> None:
        folder = minilm_folder()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding(length=max_tokens)
        self.model = load_minilm(folder / "model.safetensors").to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return states float32 [B, L, 384] and mask bool [B, L] of B captions."""
        encoded = self.tokenizer.encode_batch(captions)
        ids = torch.from_numpy(np.array([e.ids for e in encoded])).to(self.device)
        mask = torch.from_numpy(np.array([e.attention_mask for e in encoded])).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            states = self.model(ids, mask)
        return states.float(), mask.bool()
