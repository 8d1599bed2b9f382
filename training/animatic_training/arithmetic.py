"""Which arithmetic trains fastest on a device: bfloat16 where it has units for it, else float32.

On a processor without them bfloat16 is emulated and some hundred times slower.
"""

from __future__ import annotations

import torch


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the type in which matrix products are fast on a device."""
    if device.type != "cpu" or torch.cpu._is_amx_tile_supported():  # noqa: SLF001, no public name
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return the context in which matrix products are computed in `fast_dtype`."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
