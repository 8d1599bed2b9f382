"""One network's tensors in a checkpoint: each taken once, none missing, none left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from animatic_export.errors import CheckpointError
from animatic_export.ltx.config import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor, nn


class Part:
    """Tensors that are read when they are taken; `title` is what messages call their network."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Iterable[str], title: str) -> None:
        self._tensors = tensors
        self._left = dict.fromkeys(names)
        self._title = title

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor in float32; CheckpointError if it is missing or of another shape."""
        if name not in self._left:
            raise CheckpointError(
                f"The checkpoint has no tensor {name}, which an {self._title} of this config has: "
                f"{ADVICE}, whole."
            )
        del self._left[name]
        tensor = self._tensors[name]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"The tensor {name} is {list(tensor.shape)} and an {self._title} of this config "
                f"has {list(shape)}: {ADVICE}, with the config that belongs to it."
            )
        return tensor.float()

    def close(self) -> None:
        """Refuse what was not taken, as CheckpointError."""
        for name in self._left:
            raise CheckpointError(
                f"The checkpoint has a tensor {name}, which an {self._title} of this config does "
                f"not have: {ADVICE}, neither quantised nor extended."
            )


def shapes_of(make: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a module, which is made without storage."""
    with torch.device("meta"):
        module = make()
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
