"""A convolution is a matrix product on windows of its input: single rows of it, taken at random.

A row is what one output value per channel is made of: the channels of a token, or the window of a
picture, padding included. A few hundred of them, spread over every call, tell what quantising a
layer costs without keeping whole activations.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from animatic_calibration.layers import Layer, Window

__all__ = ["RESERVOIR_ROWS", "Reservoir", "sample_rows"]

RESERVOIR_ROWS: Final = 512
_PER_CALL: Final = 64
"""Rows looked at in one call; there are hundreds of calls."""


class Reservoir:
    """A uniform sample of at most `capacity` of the rows that were added, whatever their number.

    Every row draws a random key and the largest keys stay (Vitter, "Random sampling with a
    reservoir", 1985, in the form with keys).
    """

    def __init__(self, rng: np.random.Generator, capacity: int = RESERVOIR_ROWS) -> None:
        self._rng = rng
        self._capacity = capacity
        self._keys = np.empty(0)
        self._rows: npt.NDArray[np.float16] | None = None

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Offer rows [n, width]; they are kept as float16, which they were in the graph."""
        keys = np.concatenate([self._keys, self._rng.random(len(rows))])
        half = rows.astype(np.float16)
        both = half if self._rows is None else np.concatenate([self._rows, half])
        if len(both) > self._capacity:
            kept = np.sort(np.argpartition(keys, -self._capacity)[-self._capacity :])
            keys, both = keys[kept], both[kept]
        self._keys, self._rows = keys, both

    @property
    def rows(self) -> npt.NDArray[np.float16]:
        """The sample, float16 [at most capacity, width]."""
        if self._rows is None:
            return np.zeros((0, 0), dtype=np.float16)
        return self._rows


def sample_rows(
    layer: Layer, activation: npt.NDArray[Any], rng: np.random.Generator, count: int = _PER_CALL
) -> npt.NDArray[Any]:
    """Take rows [at most count, in] of a layer's input, in the order of `layers.to_matrix`."""
    if layer.window:
        return _windows(layer.window, activation, rng, count)
    flat = activation.reshape(-1, activation.shape[-1])
    return flat[rng.choice(len(flat), size=min(count, len(flat)), replace=False)]


def _windows(
    window: Window, picture: npt.NDArray[Any], rng: np.random.Generator, count: int
) -> npt.NDArray[Any]:
    """Cut windows out of [batch, channels, *axes] and flatten each, channel first."""
    padded = np.pad(picture, ((0, 0), (0, 0), *window.pads))
    by_place = np.moveaxis(padded, 1, -1)
    spans = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    places = [
        (size - span) // stride + 1
        for size, span, stride in zip(padded.shape[2:], spans, window.strides, strict=True)
    ]
    grid = (len(padded), *places)
    total = int(np.prod(grid))
    chosen = np.unravel_index(rng.choice(total, size=min(count, total), replace=False), grid)
    taps = []
    for offsets in itertools.product(*(range(size) for size in window.kernel)):
        place = tuple(
            at * stride + offset * dilation
            for at, stride, offset, dilation in zip(
                chosen[1:], window.strides, offsets, window.dilations, strict=True
            )
        )
        taps.append(by_place[(chosen[0], *place)])
    return np.stack(taps, axis=-1).reshape(len(chosen[0]), -1)
