"""The ranges of a whole graph: every method's answer, what each costs, which is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from animatic_calibration.fidelity import decibel
from animatic_calibration.layer_error import relative_noise
from animatic_calibration.ranges import choose_range
from animatic_calibration.smoothing import groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic_calibration.capture import Heard
    from animatic_calibration.formats import Format
    from animatic_calibration.network import Network

__all__ = ["LayerRange", "amax_by", "choose_ranges"]


@dataclass(frozen=True)
class LayerRange:
    """Where a layer's input may be clipped.

    amax, snr_db: by method; the SNR is of the layer's output. method: the one taken, for all
    layers that share the input.
    """

    amax: Mapping[str, float]
    snr_db: Mapping[str, float]
    method: str


def choose_ranges(
    network: Network, heard: Heard, format_: Format, method: str | None
) -> dict[str, LayerRange]:
    """Return the ranges by the layer's output.

    network: smoothed, as it was when it was listened to.
    method: one for all; None takes for each activation what loses least in its layers' outputs.
    """
    matrices = network.matrices()
    chosen: dict[str, LayerRange] = {}
    for activation, group in groups(network.layers).items():
        histogram = heard.statistics[activation].histogram
        amax = {name: choose_range(name, histogram, format_) for name in format_.ranges}
        noises = np.array(
            [
                relative_noise(
                    heard.rows[layer.output].astype(np.float32),
                    matrices[layer.output],
                    amax.values(),
                    format_,
                )
                for layer in group
            ]
        )
        best = list(amax)[int(np.argmin(noises.sum(axis=0)))]
        for layer, noise in zip(group, noises, strict=True):
            snr = {name: decibel(1.0, float(n)) for name, n in zip(amax, noise, strict=True)}
            chosen[layer.output] = LayerRange(amax, snr, method or best)
    return chosen


def amax_by(ranges: Mapping[str, LayerRange], method: str | None = None) -> dict[str, float]:
    """Return where every layer's input is clipped, by its output: as chosen, or by one method."""
    return {output: layer.amax[method or layer.method] for output, layer in ranges.items()}
