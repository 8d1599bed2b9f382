"""The reference, transformers' own encoders, in sizes that take no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from animatic_export.t5.config import read_config
from animatic_export.t5.names import load_encoder
from tests.export.published import quiet, randomise

if TYPE_CHECKING:
    from animatic_export.t5.encoder import T5Encoder

KINDS: Final = ("umt5", "t5")
TOKENS: Final = 512


def reference(kind: str, width: int = 32, dtype: torch.dtype = torch.float32) -> Any:
    """An encoder of three layers; of 128 wide, its matrices are large enough to be kept narrow."""
    torch.manual_seed(0)
    with quiet():
        from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

        config, model = {
            "umt5": (UMT5Config, UMT5EncoderModel),
            "t5": (T5Config, T5EncoderModel),
        }[kind]
        made = model(
            config(
                vocab_size=96,
                d_model=width,
                d_kv=24 if width == 32 else 96,  # heads together need not be as wide as a token
                d_ff=width * 3 // 2,
                num_layers=3,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        ).eval()
    randomise(made, 5, 0.05)
    return made.to(dtype)


def ours(made: Any) -> T5Encoder:
    return load_encoder(made.state_dict(), read_config(made.config.to_dict()), TOKENS)


def prompts(length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two prompts, the second padded from two thirds on."""
    ids = torch.randint(96, (2, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, -(-length * 2 // 3) :] = 0
    return ids, mask


@torch.no_grad()
def states(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    made: Any = model(ids, mask)
    if isinstance(made, torch.Tensor):
        return made
    last: torch.Tensor = made.last_hidden_state
    return last
