"""Which arithmetic trains fastest on a device: bfloat16 where it has units for it, else float32.

Processors have them as AMX (measured: ten times as fast as float32) or as AVX-512's BF16 (four
times). Without either bfloat16 is emulated and some hundred times slower.
"""

from __future__ import annotations

import torch


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the type in which matrix products are fast on a device."""
    if device.type != "cpu" or _has_units():
        return torch.bfloat16
    return torch.float32


def _has_units() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    cpu = torch.cpu
    return cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported()  # noqa: SLF001


def autocast(device: torch.device) -> torch.autocast:
    """Return the context in which matrix products are computed in `fast_dtype`."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def keep_to_sound_kernels() -> None:
    """Keep torch from attention by cuDNN, which an H100 would otherwise be given.

    Its backward pass with a mask can return NaN where the keys are 64 more than a multiple of 128
    (pytorch/pytorch#196678, in torch 2.11), as windows of 8 latent frames of 80 tokens have them;
    and it plans every number of keys anew. Without it a mask chooses the kernel "efficient
    attention", which takes a mask [B, 1, 1, S] as it is where S is a multiple of 8.
    """
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
