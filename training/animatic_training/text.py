"""Captions to token states, with the frozen text encoder of the built-in bundle.

Nothing else is to be fetched: its 8-bit weights and its tokenizer come with the runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from tokenizers import Tokenizer

from animatic.store import OpenBundle, open_bundle
from animatic_export.blockout.minilm import WIDTH, MiniLm, minilm_of
from animatic_training.arithmetic import autocast
from animatic_training.bundle_weights import read_bundle_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


ALIKE: Final = 16
"""Captions that a processor encodes at once."""


def read_text_encoder(opened: OpenBundle) -> MiniLm:
    """Return the text encoder of a Blockout bundle, in float32: its 8-bit weights widened."""
    graph = opened.bundle.graph("text_encoder")
    return minilm_of(read_bundle_weights(opened.path(graph.file)))


class CaptionEncoder:
    """Tokenises and encodes batches of captions, padded to one length."""

    def __init__(self, max_tokens: int, device: torch.device) -> None:
        opened = open_bundle(verify=False)
        self.tokenizer = Tokenizer.from_file(str(opened.path(opened.bundle.text.tokenizer.file)))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding(length=max_tokens)
        self.model = read_text_encoder(opened).to(device)
        self.device = device
        self.empty = self.tokens([""])[0]
        """Token ids int32 [L] of no caption at all."""

    def tokens(self, captions: Sequence[str]) -> np.ndarray:
        """Return token ids int32 [B, L] of captions; 0 where there is none."""
        encoded = self.tokenizer.encode_batch(list(captions))
        return np.array([e.ids for e in encoded], np.int32)

    @torch.no_grad()
    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return states float32 [B, L, 384] and mask bool [B, L] of token ids [B, L].

        On a processor L becomes that of the longest caption, and captions of about one length are
        encoded together: padding would cost as much as words.
        """
        ids = ids.to(self.device)
        if self.device.type != "cpu":
            return self._states(ids), ids != 0
        lengths = (ids != 0).sum(1)
        states = torch.zeros(len(ids), int(lengths.max()), WIDTH)
        for rows in lengths.argsort().split(ALIKE):
            longest = int(lengths[rows].max())
            states[rows, :longest] = self._states(ids[rows, :longest])
        return states, ids[:, : states.shape[1]] != 0

    def _states(self, ids: Tensor) -> Tensor:
        with autocast(self.device):
            # [PAD] is token 0, and no caption holds it.
            return self.model(ids.long(), ids != 0).float()

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return states and mask of captions, as `encode`."""
        return self.encode(torch.from_numpy(self.tokens(captions)))
