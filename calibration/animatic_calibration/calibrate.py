"""A bundle with typed float16 graphs in; the same bundle, with eight-bit graphs too, out.

The steps, each a module: `prompts`, `capture`, `smoothing` (chosen in `layer_error`), `capture`
again on the smoothed graphs, `range_choice`, `sensitivity`, `quantise`, `report`, `publish`. How
much each does depends on what a clip costs (`effort`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from animatic import __version__
from animatic.store import open_bundle, verify_files
from animatic_calibration.capture import capture
from animatic_calibration.clips import Stage
from animatic_calibration.echo import Echo
from animatic_calibration.effort import Effort
from animatic_calibration.ends import end_units
from animatic_calibration.fidelity import psnr
from animatic_calibration.formats import FORMATS
from animatic_calibration.judgement import describe_layers, measure
from animatic_calibration.layer_error import choose_smoothing
from animatic_calibration.publish import (
    SOURCE,
    publish,
    report_path,
    save_graph,
    save_report,
    workplace,
)
from animatic_calibration.range_choice import LayerRange, amax_by, choose_ranges
from animatic_calibration.report import Report, to_json, to_markdown
from animatic_calibration.sensitivity import Choice, Jury, choose_layers, row_noise, unit_noise
from animatic_calibration.smoothing import groups
from animatic_calibration.sources import (
    LIMITS,
    Limits,
    Settings,
    Sources,
    fingerprint,
    is_fresh,
    stored_bytes,
)
from animatic_calibration.ways import Way, load_networks, ways

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role
    from animatic.shot import Shot
    from animatic.store import OpenBundle
    from animatic_calibration.capture import Heard
    from animatic_calibration.network import Network
    from animatic_calibration.prompts import PromptSplit
    from animatic_calibration.report import Fidelity

_log = logging.getLogger(__name__)

__all__ = ["Settings", "calibrate_bundle", "fingerprint"]

JURY_MARGIN_DB: Final = 3.0
"""What the few clips that choices are made on must be nearer: the worst of eight others was 2.5 dB
below the worst of four (Blockout, 2026-11-23)."""


def calibrate_bundle(
    root: Path,
    prompts: PromptSplit,
    settings: Settings,
    *,
    force: bool = False,
    tell: Callable[[str], None] = _log.info,
    limits: Limits = LIMITS,
) -> Path | None:
    """Calibrate the bundle in a folder and return its report, or None if nothing has changed.

    tell: called with a line about every step. limits: from which size on graphs are dealt with as
    large ones. BundleError, CalibrationError, EngineError, ShotError or OutputError; the bundle is
    then as it was.
    """
    opened = open_bundle(root, verify=False)
    sources = Sources.of(opened)
    made_from = fingerprint(opened, prompts, settings)
    verify_files(opened, sources.files(opened))
    path = report_path(root, settings.precision)
    if not force and is_fresh(opened, settings.precision, made_from):
        return None

    def waiting() -> None:
        tell("waiting for another program that writes to this bundle")

    effort = Effort.of(
        opened.bundle,
        prompts,
        costly=stored_bytes(opened, sources.graphs["denoiser"]) > limits.costly,
        clips=settings.clips,
        frames=settings.frames,
    )
    with workplace(root, waiting) as folder:
        calibration = _Calibration(opened, sources, effort, settings, limits, tell)
        graphs, report = calibration.run(folder, made_from)
        save_report(to_json(report), to_markdown(report), settings.precision, folder)
        publish(opened, graphs, folder, waiting)
    return path


class _Calibration:
    """One calibration under way."""

    def __init__(
        self,
        opened: OpenBundle,
        sources: Sources,
        effort: Effort,
        settings: Settings,
        limits: Limits,
        tell: Callable[[str], None],
    ) -> None:
        self._opened = opened
        self._sources = sources
        self._effort = effort
        self._settings = settings
        self._limits = limits
        self._tell = tell
        self._format = FORMATS[settings.precision]
        self._stage = Stage(opened, limits.in_memory)
        reference = opened.bundle.graph("denoiser")
        self._denoiser = Echo(reference, partial(self._stage.reference, "denoiser"))
        self._seconds: dict[str, float] = {}

    def run(self, folder: Path, made_from: str) -> tuple[list[GraphSpec], Report]:
        """Write the quantised graphs into a folder and say what was done."""
        effort, precision = self._effort, self._settings.precision
        with self._step("encoding prompts"):
            self._stage.rehearse([*effort.listened, *effort.judged, *effort.measured])
        with self._step("listening"):
            networks, left = load_networks(
                self._opened,
                self._sources,
                folder.parent,  # beside what goes into the bundle
                self._limits.in_memory,
            )
            for role, why in left.items():
                self._tell(f"the {role} stays as it is: {why}")
            heard = self._listen(networks)
        with self._step("smoothing"):
            networks = {role: self._smoothed(n, heard[role]) for role, n in networks.items()}
        smooth = {role: network.smoothed() for role, network in networks.items()}
        with self._step("listening again"):
            heard = self._listen_again(networks, smooth, heard)
        with self._step("ranges"):
            ranges = {role: self._ranges(smooth[role], heard[role]) for role in networks}
        with self._step("one layer at a time"):
            noises = {
                role: self._noises(network, heard[role], ranges[role])
                for role, network in networks.items()
            }
        amax = {role: amax_by(ranges[role]) for role in networks}
        target = self._settings.target_psnr + JURY_MARGIN_DB
        usual, *others = ways(self._opened.bundle, networks)
        with self._step("choosing layers"):
            jury = self._jury(usual, effort.judged, amax)
            choice = self._choose(usual, jury, noises, target)
            chosen = [choice]
            for way in others:
                shown = self._jury(way, effort.judged, amax)
                chosen.append(self._choose(way, shown, noises, target))
        with self._step("comparing ranges"):
            compared = self._compare(jury, choice, {role: ranges[role] for role in usual.networks})
        with self._step("measuring"):
            measured = self._measure(usual, choice, amax)
            apart = {
                str(way.decoder): self._measure(way, made, amax)
                for way, made in zip(others, chosen[1:], strict=True)
            }
        outputs = {role: found for made in chosen for role, found in made.outputs.items()}
        kept = {name: why for made in chosen for name, why in made.kept.items()}
        graphs = []
        for role, network in networks.items():
            model = network.quantised(outputs[role], amax[role], self._format)
            graphs.append(
                save_graph(
                    model,
                    network.spec,
                    precision,
                    made_from,
                    folder,
                    weights=network.weights,
                    one_file=self._limits.one_file,
                )
            )
        report = Report(
            made_from=made_from,
            bundle=self._opened.bundle.name,
            precision=precision,
            animatic=__version__,
            target_psnr_db=self._settings.target_psnr,
            jury_target_psnr_db=target,
            jury_clips=len(choice.errors),
            calibration_prompts=len(effort.listened),
            clip=self._clip(usual),
            calls={role: heard[role].runs for role in networks},
            measured=measured,
            measured_apart=apart,
            shortfall=self._shortfall(measured[precision]),
            range_psnr_db=compared,
            layers=tuple(
                layer
                for role in networks
                for layer in describe_layers(
                    role,
                    networks[role],
                    ranges[role],
                    None if effort.costly else noises[role],
                    kept,
                )
            ),
            left_out={role: dict(networks[role].left_out) for role in networks},
            left={str(role): why for role, why in left.items()},
            seconds=self._seconds,
        )
        return graphs, report

    def _listen(self, networks: Mapping[Role, Network]) -> dict[Role, Heard]:
        heard: dict[Role, Heard] = {}
        for way in ways(self._opened.bundle, networks):
            shots = way.shots(self._effort.listened)

            def told(done: int, of: int = len(shots)) -> None:
                if done % 4 == 0 or done == of:
                    self._tell(f"{done} of {of} clips")

            heard |= capture(
                self._stage,
                way.networks,
                shots,
                told,
                others={"denoiser": self._denoiser},
                whole=not self._effort.costly,
            )
        self._denoiser.close()
        return heard

    def _listen_again(
        self,
        networks: Mapping[Role, Network],
        smooth: Mapping[Role, Network],
        heard: Mapping[Role, Heard],
    ) -> dict[Role, Heard]:
        if self._effort.costly:
            return {role: heard[role].smoothed(networks[role], smooth[role]) for role in networks}
        return self._listen(smooth)

    def _smoothed(self, network: Network, heard: Heard) -> Network:
        matrices = network.matrices()
        found = {
            activation: choose_smoothing(
                group,
                heard.rows,
                matrices,
                heard.statistics[activation].channel_amax,
                self._format,
            )
            for activation, group in groups(network.layers).items()
        }
        return replace(network, smoothing={name: s for name, s in found.items() if s})

    def _ranges(self, smooth: Network, heard: Heard) -> dict[str, LayerRange]:
        return choose_ranges(smooth, heard, self._format, self._settings.ranges)

    def _noises(
        self, network: Network, heard: Heard, ranges: Mapping[str, LayerRange]
    ) -> dict[str, float]:
        if self._effort.costly:
            return row_noise(network, ranges)
        return unit_noise(network, heard.calls, amax_by(ranges), self._format)

    def _jury(
        self, way: Way, shots: Sequence[Shot], amax: Mapping[Role, Mapping[str, float]]
    ) -> Jury:
        jury = Jury(
            self._stage,
            way.shots(shots),
            way.networks,
            amax,
            self._format,
            others={"denoiser": self._denoiser},
        )
        self._denoiser.close()  # of what it said more will be heard, but it said all
        return jury

    def _choose(
        self,
        way: Way,
        jury: Jury,
        noises: Mapping[Role, Mapping[str, float]],
        target: float,
    ) -> Choice:
        costly = self._effort.costly
        high = {
            role: end_units(network.model, network.units) if costly else {}
            for role, network in way.networks.items()
        }
        return choose_layers(
            way.networks,
            noises,
            jury,
            target,
            self._tell,
            high=high,
            most_high=self._effort.most_high,
        )

    def _compare(
        self, jury: Jury, choice: Choice, ranges: Mapping[Role, Mapping[str, LayerRange]]
    ) -> dict[str, float]:
        """Return the clips' PSNR with every range chosen by one method, and with those taken."""
        compared = {"chosen": _pooled(choice.errors)}
        for method in () if self._effort.costly else self._format.ranges:
            amax = {role: amax_by(ranges[role], method) for role in ranges}
            compared[method] = _pooled(jury.errors(choice.outputs, amax))
            self._tell(f"{method}: {compared[method]:.1f} dB")
        return compared

    def _measure(
        self, way: Way, choice: Choice, amax: Mapping[Role, Mapping[str, float]]
    ) -> dict[str, Fidelity]:
        judge = self._jury(way, self._effort.measured, amax)
        none = {role: frozenset[str]() for role in way.networks}
        return {
            name: measure(judge.clips(outputs), judge.originals)
            for name, outputs in ((SOURCE, none), (self._settings.precision, choice.outputs))
        }

    def _shortfall(self, reached: Fidelity) -> str:
        if reached.worst_psnr_db >= self._settings.target_psnr:
            return ""
        words = (
            f"the worst of {reached.clips} clips measured on is at "
            f"{reached.worst_psnr_db:.1f} dB, under the {self._settings.target_psnr:g} dB "
            "asked for; to be nearer, calibrate with more --prompts or a higher --target-psnr"
        )
        self._tell(words)
        return words

    def _clip(self, way: Way) -> str:
        plan = way.shots(self._effort.listened)[0].plan(self._opened.bundle)
        return (
            f"{plan.width}x{plan.height}, {plan.frames} frames, {plan.steps} steps, drawn by the "
            f"{plan.decoder}"
        )

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._tell(name)
        started = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - started, 1)


def _pooled(errors: Sequence[float]) -> float:
    """Return the PSNR in dB of clips' mean squared errors taken together."""
    return psnr(sum(errors) / len(errors))
