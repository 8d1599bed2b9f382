"""A bundle with typed float16 graphs in; the same bundle, with eight-bit graphs too, out.

The steps, each a module: `prompts`, `capture`, `smoothing` (chosen in `layer_error`), `capture`
again on the smoothed graphs, `range_choice`, `sensitivity`, `quantise`, `report`, `publish`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import onnx

from animatic import __version__
from animatic.errors import BundleIntegrityError, BundleSchemaError
from animatic.shot import Shot
from animatic.store import open_bundle, verify_files
from animatic_calibration.capture import capture
from animatic_calibration.clips import ROLES, Stage
from animatic_calibration.errors import CalibrationError
from animatic_calibration.fidelity import psnr
from animatic_calibration.formats import FORMATS
from animatic_calibration.judgement import describe_layers, measure
from animatic_calibration.layer_error import choose_smoothing
from animatic_calibration.layers import survey
from animatic_calibration.network import Network
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
from animatic_calibration.sensitivity import Choice, Jury, choose_layers, unit_noise
from animatic_calibration.smoothing import groups
from animatic_calibration.split_products import split_products

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role
    from animatic.store import OpenBundle
    from animatic_calibration.capture import Heard
    from animatic_calibration.prompts import PromptSplit

_log = logging.getLogger(__name__)

__all__ = ["Settings", "calibrate_bundle", "fingerprint"]

METHOD: Final = 2
"""Raised when the same inputs give other graphs, so that old ones are made again."""
JURY_CLIPS: Final = 4
JURY_MARGIN_DB: Final = 3.0
"""What the few clips that choices are made on must be nearer: the worst of eight others was 2.5 dB
below the worst of four (Blockout, 2026-11-23)."""
MEASURED_CLIPS: Final = 8
JURY_SEEDS: Final = 1_000
MEASURE_SEEDS: Final = 2_000


@dataclass(frozen=True)
class Settings:
    """What may be chosen.

    precision: "int8" or "fp8". ranges: one method for all tensors; None is the best for each.
    target_psnr: dB of whole clips against the float32 reference, even the worst of them.
    """

    precision: str = "int8"
    ranges: str | None = None
    target_psnr: float = 35.0


def calibrate_bundle(
    root: Path,
    prompts: PromptSplit,
    settings: Settings,
    *,
    force: bool = False,
    tell: Callable[[str], None] = _log.info,
) -> Path | None:
    """Calibrate the bundle in a folder and return its report, or None if nothing has changed.

    tell: called with a line about every step. BundleError, CalibrationError, EngineError or
    OutputError; the bundle is then as it was.
    """
    opened = open_bundle(root, verify=False)
    made_from = fingerprint(opened, prompts, settings)
    verify_files(opened, _read_from(opened))
    path = report_path(root, settings.precision)
    if not force and _is_fresh(opened, settings.precision, made_from):
        return None

    def waiting() -> None:
        tell("waiting for another program that writes to this bundle")

    with workplace(root, waiting) as folder:
        graphs, report = _Calibration(opened, prompts, settings, tell).run(folder, made_from)
        save_report(to_json(report), to_markdown(report), settings.precision, folder)
        publish(opened, graphs, folder, waiting)
    return path


def fingerprint(opened: OpenBundle, prompts: PromptSplit, settings: Settings) -> str:
    """Hash all that a calibration is made from, as SHA-256 in hex.

    The other quantised graphs, the engines and the scores do not count.
    """
    bundle = opened.bundle
    graphs = [_source(opened, role) for role in ROLES]
    graphs += [bundle.graph(role) for role in (*ROLES, "text_encoder")]
    parts = {
        "method": METHOD,
        "graphs": [[g.role, g.sha256, *(d.sha256 for d in g.external_data)] for g in graphs],
        "model": msgspec.to_builtins(
            [bundle.geometry, bundle.latents, bundle.sampler, bundle.text]
        ),
        "prompts": [prompts.calibration, prompts.held],
        "settings": asdict(settings),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_from(opened: OpenBundle) -> set[str]:
    """The files of the bundle that a calibration reads."""
    graphs = [_source(opened, role) for role in ROLES]
    graphs += [opened.bundle.graph(role) for role in (*ROLES, "text_encoder")]
    data = {data.file for graph in graphs for data in graph.external_data}
    return data | {graph.file for graph in graphs} | {opened.bundle.text.tokenizer.file}


def _source(opened: OpenBundle, role: Role) -> GraphSpec:
    try:
        return opened.bundle.graph(role, SOURCE)
    except BundleSchemaError as error:
        raise CalibrationError(
            f"The bundle {opened.root} has no {SOURCE} graph of the {role} to quantise; export "
            f"it with `animatic export RECIPE --precision {SOURCE}`."
        ) from error


def _is_fresh(opened: OpenBundle, precision: str, made_from: str) -> bool:
    """Whether whole graphs and a report of these very inputs are there."""
    made = [g for g in opened.bundle.graphs if (g.precision, g.made_from) == (precision, made_from)]
    there = {graph.role for graph in made}
    try:
        verify_files(opened, {graph.file for graph in made})
        report = msgspec.json.decode(report_path(opened.root, precision).read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError, BundleIntegrityError):
        return False
    return there >= set(ROLES) and report.made_from == made_from


class _Calibration:
    """One calibration under way."""

    def __init__(
        self,
        opened: OpenBundle,
        prompts: PromptSplit,
        settings: Settings,
        tell: Callable[[str], None],
    ) -> None:
        self._opened = opened
        self._prompts = prompts
        self._settings = settings
        self._tell = tell
        self._format = FORMATS[settings.precision]
        self._stage = Stage(opened)
        self._seconds: dict[str, float] = {}

    def run(self, folder: Path, made_from: str) -> tuple[list[GraphSpec], Report]:
        """Write the quantised graphs into a folder and say what was done."""
        with self._step("listening"):
            networks = {role: self._network(role) for role in ROLES}
            heard = self._listen(networks)
        with self._step("smoothing"):
            networks = {role: self._smoothed(networks[role], heard[role]) for role in ROLES}
        smooth = {role: network.smoothed() for role, network in networks.items()}
        with self._step("listening again"):
            heard = self._listen(smooth)
        with self._step("ranges"):
            ranges = {role: self._ranges(smooth[role], heard[role]) for role in ROLES}
        with self._step("one layer at a time"):
            noises = {
                role: self._noises(networks[role], heard[role], ranges[role]) for role in ROLES
            }
        with self._step("choosing layers"):
            shots = _shots(self._prompts.calibration[:JURY_CLIPS], JURY_SEEDS)
            amax = {role: amax_by(ranges[role]) for role in ROLES}
            jury = Jury(self._stage, shots, networks, amax, self._format)
            target = self._settings.target_psnr + JURY_MARGIN_DB
            choice = choose_layers(networks, noises, jury, target, self._tell)
        with self._step("comparing ranges"):
            compared = self._compare(jury, choice, ranges)
        with self._step("measuring"):
            shots = _shots(self._prompts.held[:MEASURED_CLIPS], MEASURE_SEEDS)
            judge = Jury(self._stage, shots, networks, amax, self._format)
            none = {role: frozenset[str]() for role in ROLES}
            measured = {
                name: measure(judge.clips(outputs), judge.originals)
                for name, outputs in (
                    (SOURCE, none),
                    (self._settings.precision, choice.outputs),
                )
            }
        reached = measured[self._settings.precision]
        shortfall = ""
        if reached.worst_psnr_db < self._settings.target_psnr:
            shortfall = (
                f"the worst of {reached.clips} clips measured on is at "
                f"{reached.worst_psnr_db:.1f} dB, under the {self._settings.target_psnr:g} dB "
                "asked for; to be nearer, calibrate with more --prompts or a higher --target-psnr"
            )
            self._tell(shortfall)
        graphs = []
        for role, network in networks.items():
            model = network.quantised(choice.outputs[role], amax[role], self._format)
            onnx.checker.check_model(model, full_check=True)
            precision = self._settings.precision
            graphs.append(save_graph(model, network.spec, precision, made_from, folder))
        report = Report(
            made_from=made_from,
            bundle=self._opened.bundle.name,
            precision=self._settings.precision,
            animatic=__version__,
            target_psnr_db=self._settings.target_psnr,
            jury_target_psnr_db=target,
            jury_clips=len(choice.errors),
            calibration_prompts=len(self._prompts.calibration),
            calls={role: heard[role].runs for role in ROLES},
            measured=measured,
            shortfall=shortfall,
            range_psnr_db=compared,
            layers=tuple(
                layer
                for role in ROLES
                for layer in describe_layers(
                    role, networks[role], ranges[role], noises[role], choice.kept
                )
            ),
            left_out={role: dict(networks[role].left_out) for role in ROLES},
            seconds=self._seconds,
        )
        return graphs, report

    def _network(self, role: Role) -> Network:
        spec = _source(self._opened, role)
        model = split_products(onnx.load(self._opened.path(spec.file)))
        found = survey(model)
        if not found.layers:
            raise CalibrationError(
                f"The {SOURCE} graph of the {role} has no layer that can be quantised; leave this "
                f"bundle in {SOURCE}."
            )
        return Network(spec, model, found.layers, found.left_out, {})

    def _listen(self, networks: Mapping[Role, Network]) -> dict[Role, Heard]:
        shots = _shots(self._prompts.calibration, 0)
        graphs = {role: (n.model, n.spec, n.layers) for role, n in networks.items()}

        def told(done: int) -> None:
            if done % 4 == 0 or done == len(shots):
                self._tell(f"{done} of {len(shots)} clips")

        return capture(self._stage, graphs, shots, told)

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
        return unit_noise(network, heard.calls, amax_by(ranges), self._format)

    def _compare(
        self, jury: Jury, choice: Choice, ranges: Mapping[Role, Mapping[str, LayerRange]]
    ) -> dict[str, float]:
        """Return the clips' PSNR with every range chosen by one method, and with those taken."""
        compared = {"chosen": _pooled(choice.errors)}
        for method in self._format.ranges:
            amax = {role: amax_by(ranges[role], method) for role in ROLES}
            compared[method] = _pooled(jury.errors(choice.outputs, amax))
            self._tell(f"{method}: {compared[method]:.1f} dB")
        return compared

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._tell(name)
        started = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - started, 1)


def _pooled(errors: Sequence[float]) -> float:
    """Return the PSNR in dB of clips' mean squared errors taken together."""
    return psnr(sum(errors) / len(errors))


def _shots(prompts: Sequence[str], first_seed: int) -> list[Shot]:
    return [Shot(prompt, seed=first_seed + n) for n, prompt in enumerate(prompts)]
