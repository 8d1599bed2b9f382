"""Which layers stay in float16: measured, worst first, until whole clips are near enough.

Each unit is quantised alone and the graph run on the captured calls; the noise in its output is
the unit's share of the graph's loss. Whole clips then say what the shares amount to: each graph
quantised alone, against the float32 reference at the same seeds. Noise of independent units adds,
so the units whose shares fill the gap to the target are left out, the clips measured again, and so
on; every round leaves out at least as many again as before.

Stop rule: the worst of the clips reaches the target, or nothing is left to leave out.
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

    Clip = npt.NDArray[np.uint8]
    Outputs = Mapping[Role, frozenset[str]]

__all__ = ["Choice", "Jury", "choose_layers", "unit_noise"]

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
    """Clips at fixed seeds and their float32 originals, against which any engines are judged."""

    def __init__(
        self,
        stage: Stage,
        shots: Sequence[Shot],
        networks: Mapping[Role, Network],
        amax: Mapping[Role, Mapping[str, float]],
        format_: Format,
    ) -> None:
        self._stage = stage
        self._shots = shots
        self._networks = networks
        self._amax = amax
        self._format = format_
        self.originals: list[Clip] = list(stage.play(stage.reference_engines(), shots))

    def clips(
        self, outputs: Outputs, amax: Mapping[Role, Mapping[str, float]] | None = None
    ) -> list[Clip]:
        """Make the clips with these layers quantised; `amax` replaces the jury's ranges."""
        ranges = self._amax if amax is None else amax
        engines: dict[Role, Engine] = {
            role: ModelEngine(
                network.quantised(outputs[role], ranges[role], self._format), network.spec
            )
            for role, network in self._networks.items()
        }
        return list(self._stage.play(engines, self._shots))

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
    plain = ModelEngine(network.model, network.spec)
    # Not as captured: smoothing moved the last bits, and they are not the unit's doing.
    wanted = [plain.run_complete(call.inputs)[name].astype(np.float64) for call in calls]
    signal = max(sum(float(np.square(output).sum()) for output in wanted), 1e-30)
    noises: dict[str, float] = {}
    for unit in network.units:
        engine = ModelEngine(network.quantised(unit.outputs, amax, format_), network.spec)
        noise = 0.0
        for call, output in zip(calls, wanted, strict=True):
            given = engine.run_complete(call.inputs)[name]
            noise += float(np.square(given.astype(np.float64) - output).sum())
        noises[unit.name] = noise / signal
    return noises


def choose_layers(
    networks: Mapping[Role, Network],
    noises: Mapping[Role, Mapping[str, float]],
    jury: Jury,
    target_db: float,
    tell: Callable[[str], None],
) -> Choice:
    """Choose what is quantised; CalibrationError if even float16 does not reach the target."""
    allowed = PEAK**2 / 10 ** (target_db / 10)
    none: dict[Role, frozenset[str]] = {role: frozenset() for role in networks}
    chosen = {
        role: frozenset(layer.output for layer in network.layers)
        for role, network in networks.items()
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
    kept: dict[str, str] = {}
    if max(errors) > allowed:
        losses = _losses(networks, noises, jury, none, chosen, floor)
        order = sorted(losses, key=lambda key: losses[key], reverse=True)
        while max(errors) > allowed:
            excess = max(errors) - MARGIN * allowed
            count = _how_many(order, losses, excess, at_least=max(1, len(kept)))
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
    networks: Mapping[Role, Network],
    noises: Mapping[Role, Mapping[str, float]],
    jury: Jury,
    none: Outputs,
    everything: Outputs,
    floor: float,
) -> dict[tuple[Role, Unit], float]:
    """Return what each unit adds to the worst clip's mean squared error, in squared levels."""
    losses: dict[tuple[Role, Unit], float] = {}
    for role, network in networks.items():
        alone = max(0.0, max(jury.errors({**none, role: everything[role]})) - floor)
        total = sum(noises[role].values()) or 1.0
        for unit in network.units:
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
