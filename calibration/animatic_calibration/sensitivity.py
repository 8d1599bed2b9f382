"""Which layers stay in float16: measured, worst first, until whole clips are near enough.

Each unit is quantised alone and the graph run on the captured calls; the noise in its output is
the unit's share of the graph's loss. Of a costly model (`effort`) it is the noise in the outputs of
the unit's own layers, from their rows: no graph is run, and what the rest of the graph makes of the
noise is taken to be the same everywhere. Whole clips then say what the shares amount to: each graph
quantised alone, against the float32 reference at the same seeds. Noise of independent units adds,
so the units whose shares fill the gap to the target are left out, the clips measured again, and so
on; every round leaves out at least as many again as before.

Stop rule: the worst of the clips reaches the target, or nothing more may be left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_calibration.engine import ModelEngine
from animatic_calibration.errors import CalibrationError
from animatic_calibration.fidelity import PEAK, mean_squared_error, psnr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.shot import Shot
    from animatic_calibration.capture import Call
    from animatic_calibration.clips import Stage
    from animatic_calibration.formats import Format
    from animatic_calibration.network import Network, Unit
    from animatic_calibration.range_choice import LayerRange

    Clip = npt.NDArray[np.uint8]
    Outputs = Mapping[Role, frozenset[str]]

__all__ = ["Choice", "Jury", "choose_layers", "row_noise", "unit_noise"]

MARGIN: Final = 0.8
"""Of the error that the target allows: what is measured on few clips varies on others."""


@dataclass(frozen=True)
class Choice:
    """What was decided.

    outputs: the layers that are quantised, by graph. kept: the name of each unit that is not, and
    why. errors: of the jury's clips in the end, mean squared, in squared levels.
    """

    outputs: Outputs
    kept: Mapping[str, str]
    errors: tuple[float, ...]


class Jury:
    """Clips at fixed seeds and their float32 originals, against which any engines are judged.

    others: engines that play beside the networks, of the originals too; what neither has is played
        by the reference graphs.
    """

    def __init__(
        self,
        stage: Stage,
        shots: Sequence[Shot],
        networks: Mapping[Role, Network],
        amax: Mapping[Role, Mapping[str, float]],
        format_: Format,
        *,
        others: Mapping[Role, Engine] | None = None,
    ) -> None:
        self._stage = stage
        self._shots = shots
        self._networks = networks
        self._amax = amax
        self._format = format_
        self._others = others or {}
        self.originals: list[Clip] = list(stage.play(self._others, shots))

    def clips(
        self, outputs: Outputs, amax: Mapping[Role, Mapping[str, float]] | None = None
    ) -> list[Clip]:
        """Make the clips with these layers quantised; `amax` replaces the jury's ranges."""
        ranges = self._amax if amax is None else amax
        engines: dict[Role, Engine] = {
            role: network.engine(outputs[role], ranges[role], self._format)
            for role, network in self._networks.items()
        }
        return list(self._stage.play({**self._others, **engines}, self._shots))

    def errors(
        self, outputs: Outputs, amax: Mapping[Role, Mapping[str, float]] | None = None
    ) -> tuple[float, ...]:
        """Return every clip's mean squared error, in squared levels of 0-255; as `clips`."""
        return tuple(mean_squared_error(self.clips(outputs, amax), self.originals))


def unit_noise(
    network: Network,
    calls: Sequence[Call],
    amax: Mapping[str, float],
    format_: Format,
) -> dict[str, float]:
    """Return noise / signal in the graph's first output for each unit quantised alone."""
    name = network.spec.outputs[0].name
    plain = ModelEngine(network.model, network.spec, weights=network.weights)
    # Not as captured: smoothing moved the last bits, and they are not the unit's doing.
    wanted = [plain.run_complete(call.inputs)[name].astype(np.float64) for call in calls]
    signal = max(sum(float(np.square(output).sum()) for output in wanted), 1e-30)
    noises: dict[str, float] = {}
    for unit in network.units:
        engine = network.engine(unit.outputs, amax, format_)
        noise = 0.0
        for call, output in zip(calls, wanted, strict=True):
            given = engine.run_complete(call.inputs)[name]
            noise += float(np.square(given.astype(np.float64) - output).sum())
        noises[unit.name] = noise / signal
    return noises


def row_noise(network: Network, ranges: Mapping[str, LayerRange]) -> dict[str, float]:
    """Return noise / signal in its layers' own outputs for each unit, all layers' together.

    ranges: by the layer's output, as they were chosen on rows.
    """
    return {
        unit.name: sum(
            10 ** (-ranges[output].snr_db[ranges[output].method] / 10) for output in unit.outputs
        )
        for unit in network.units
    }


def choose_layers(
    networks: Mapping[Role, Network],
    noises: Mapping[Role, Mapping[str, float]],
    jury: Jury,
    target_db: float,
    tell: Callable[[str], None],
    *,
    high: Mapping[Role, Mapping[str, str]],
    most_high: float,
) -> Choice:
    """Choose what is quantised; CalibrationError if even float16 does not reach the target.

    high: names of units that stay in float16 from the first, and why. most_high: the largest part
        of all units that may.
    """
    allowed = PEAK**2 / 10 ** (target_db / 10)
    none: dict[Role, frozenset[str]] = {role: frozenset() for role in networks}
    candidates = [
        (role, unit)
        for role, network in networks.items()
        for unit in network.units
        if unit.name not in high[role]
    ]
    kept = {f"{role}: {name}": why for role, units in high.items() for name, why in units.items()}
    may_go = int(most_high * (len(candidates) + len(kept))) - len(kept)
    chosen = {
        role: frozenset(out for r, unit in candidates if r == role for out in unit.outputs)
        for role in networks
    }
    floor = max(jury.errors(none))
    tell(f"float16: worst clip {psnr(floor):.1f} dB")
    if floor > allowed:
        raise CalibrationError(
            f"The float16 graphs themselves are {psnr(floor):.1f} dB from the reference and "
            f"{target_db:g} dB are asked for; export them again with more of them in float32, "
            "or give a lower --target-psnr."
        )
    errors = jury.errors(chosen)
    tell(f"everything quantised: worst clip {psnr(max(errors)):.1f} dB")
    if max(errors) > allowed:
        losses = _losses(candidates, noises, jury, none, chosen, floor)
        order = sorted(losses, key=lambda key: losses[key], reverse=True)[: max(0, may_go)]
        gone = 0
        while max(errors) > allowed and order:
            excess = max(errors) - MARGIN * allowed
            count = _how_many(order, losses, excess, at_least=max(1, gone))
            gone += count
            for role, unit in order[:count]:
                share = psnr(losses[role, unit])
                kept[f"{role}: {unit.name}"] = (
                    f"quantised, it alone would hold clips at {share:.1f} dB; left in float16 "
                    f"because with all others it gave {psnr(max(errors)):.1f} dB"
                )
                chosen[role] -= set(unit.outputs)
            order = order[count:]
            errors = jury.errors(chosen)
            tell(f"{len(kept)} left in float16: worst clip {psnr(max(errors)):.1f} dB")
    return Choice(chosen, kept, errors)


def _losses(
    candidates: Sequence[tuple[Role, Unit]],
    noises: Mapping[Role, Mapping[str, float]],
    jury: Jury,
    none: Outputs,
    everything: Outputs,
    floor: float,
) -> dict[tuple[Role, Unit], float]:
    """Return what each unit adds to the worst clip's mean squared error, in squared levels."""
    losses: dict[tuple[Role, Unit], float] = {}
    for role, quantised in everything.items():
        alone = max(0.0, max(jury.errors({**none, role: quantised})) - floor)
        units = [unit for r, unit in candidates if r == role]
        total = sum(noises[role][unit.name] for unit in units) or 1.0
        for unit in units:
            losses[role, unit] = alone * noises[role][unit.name] / total
    return losses


def _how_many(
    order: Sequence[tuple[Role, Unit]],
    losses: Mapping[tuple[Role, Unit], float],
    excess: float,
    *,
    at_least: int,
) -> int:
    """Count how many of the worst must go for `excess` squared levels to go with them."""
    gone = np.cumsum([losses[key] for key in order])
    enough = int(np.searchsorted(gone, excess)) + 1
    return min(len(order), max(at_least, enough))
