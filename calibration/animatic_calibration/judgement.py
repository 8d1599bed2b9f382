"""From what was measured to what the report says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from animatic_calibration.fidelity import decibel, mean_squared_error, psnr, ssim
from animatic_calibration.report import Fidelity, LayerReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from animatic_calibration.network import Network
    from animatic_calibration.range_choice import LayerRange

    Clip = npt.NDArray[np.uint8]

__all__ = ["describe_layers", "measure"]


def measure(clips: Sequence[Clip], originals: Sequence[Clip]) -> Fidelity:
    """Compare clips, uint8 [frames, height, width, 3], with the reference's."""
    errors = mean_squared_error(clips, originals)
    return Fidelity(
        psnr_db=psnr(float(np.mean(errors))),
        worst_psnr_db=psnr(max(errors)),
        ssim=float(np.mean([ssim(a, b) for a, b in zip(clips, originals, strict=True)])),
        clips=len(clips),
    )


def describe_layers(
    graph: str,
    network: Network,
    ranges: Mapping[str, LayerRange],
    noises: Mapping[str, float] | None,
    kept: Mapping[str, str],
) -> list[LayerReport]:
    """Describe every layer of a graph.

    network: not smoothed. noises: noise / signal of the graph's output by unit; None: not measured.
    kept: as `sensitivity.Choice.kept`.
    """
    read = {layer.output: layer.activation for layer in network.smoothed().layers}
    unit_of = {output: unit.name for unit in network.units for output in unit.outputs}
    described = []
    for layer in network.layers:
        smoothing = network.smoothing.get(layer.activation)
        chosen = ranges[layer.output]
        unit = unit_of[layer.output]
        moved = read[layer.output] != layer.activation
        described.append(
            LayerReport(
                graph=graph,
                name=layer.name,
                kind=layer.kind,
                channels=layer.channels,
                method=chosen.method,
                amax=chosen.amax[chosen.method],
                ranges=dict(chosen.amax),
                snr_db=dict(chosen.snr_db),
                alpha=smoothing.alpha if smoothing else None,
                alpha_gain_db=smoothing.gain if smoothing else 0.0,
                smoothed=("mul" if moved else "folded") if smoothing else "",
                graph_snr_db=None if noises is None else decibel(1.0, noises[unit]),
                kept=kept.get(f"{graph}: {unit}", ""),
            )
        )
    return described
