"""From published tensors to one of our networks: each taken once, none missing, none left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import nn

from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["NetworkTensors", "filled", "shapes_of"]

TYPES: Final = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""Of weights that are read; others are quantised, and mean nothing without their scales."""

_Network = TypeVar("_Network", bound=nn.Module)


class NetworkTensors:
    """The tensors of one network in a checkpoint, read when they are taken."""

    def __init__(
        self, tensors: Mapping[str, Tensor], names: Mapping[str, str], title: str, advice: str
    ) -> None:
        """Take what belongs to the network.

        names: what each tensor is called in messages and to `take`, and what in the checkpoint.
        title: what messages call the network ("a Wan2.1-1.3B"). advice: what they say to give.
        """
        self._tensors = tensors
        self._left = dict(names)
        self._title = title
        self._advice = advice

    def take(self, name: str, *shapes: tuple[int, ...]) -> Tensor:
        """Return a tensor as it is stored; CheckpointError if it is missing or does not fit.

        shapes: those that are allowed, of which a message says the first.
        """
        if name not in self._left:
            raise CheckpointError(
                f"The checkpoint has no tensor {name}, which {self._title} has: {self._advice}, "
                "whole."
            )
        tensor = self._tensors[self._left.pop(name)]
        if tuple(tensor.shape) not in shapes:
            raise CheckpointError(
                f"The tensor {name} is {list(tensor.shape)} and {self._title} has "
                f"{list(shapes[0])}: {self._advice}, with its own config if it has one."
            )
        if tensor.dtype not in TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"The tensor {name} is {kind}: {self._advice} in bfloat16, float16 or float32, not "
                "quantised."
            )
        return tensor

    def close(self) -> None:
        """Refuse what was not taken, as CheckpointError."""
        for name in self._left:
            raise CheckpointError(
                f"The checkpoint has a tensor {name}, which {self._title} does not have: "
                f"{self._advice}, neither quantised nor extended."
            )


def shapes_of(make: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a module, which is made without storage."""
    with torch.device("meta"):
        module = make()
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def filled(make: Callable[[], _Network], weights: Mapping[str, Tensor]) -> _Network:
    """Make a module without storage and let it take the weights over, uncopied."""
    with torch.device("meta"):
        module = make()
    module.load_state_dict({name: weights[name] for name in module.state_dict()}, assign=True)
    return module.eval().requires_grad_(requires_grad=False)
