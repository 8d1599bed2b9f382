"""What is done for a model, by what its clips cost; and the whole of a calibration done so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from animatic.bundle import Schedule
from animatic.errors import ShotError
from animatic.shot import Shot
from animatic.store import open_bundle
from animatic_calibration.calibrate import Settings, calibrate_bundle, fingerprint
from animatic_calibration.capture import capture
from animatic_calibration.cli import command
from animatic_calibration.clips import Stage
from animatic_calibration.effort import Effort
from animatic_calibration.ends import end_units
from animatic_calibration.fidelity import decibel
from animatic_calibration.formats import FORMATS
from animatic_calibration.layer_error import choose_smoothing
from animatic_calibration.layers import survey
from animatic_calibration.network import Network
from animatic_calibration.prompts import PromptSplit
from animatic_calibration.publish import report_path
from animatic_calibration.smoothing import groups
from animatic_calibration.sources import Limits
from animatic_calibration.split_products import split_products
from tests.calibration.calibrating import LENIENT, PROMPTS, contents, read_report
from tests.calibration.running import decoder_inputs, denoiser_inputs, run, snr
from tests.runtime.tiny_bundle import write_causal_bundle, write_choosy_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import Role

ROLES: tuple[Role, ...] = ("denoiser", "vae_decoder")
MANY = PromptSplit(tuple(f"prompt {n}" for n in range(12)), tuple(f"held {n}" for n in range(9)))
LARGE = Limits(costly=1000, in_memory=1000, one_file=1000)


def test_a_cheap_model_is_given_all(tiny_bundle: Path) -> None:
    effort = Effort.of(open_bundle(tiny_bundle).bundle, MANY, costly=False)
    assert effort.listened == tuple(Shot(p, seed=n) for n, p in enumerate(MANY.calibration))
    assert effort.judged == tuple(
        Shot(p, seed=1000 + n) for n, p in enumerate(MANY.calibration[:4])
    )
    assert effort.measured == tuple(Shot(p, seed=2000 + n) for n, p in enumerate(MANY.held[:8]))
    assert effort.most_high == 1


def test_a_costly_one_few_small_and_short_clips(tmp_path: Path) -> None:
    bundle = open_bundle(write_choosy_bundle(tmp_path / "bundle")).bundle
    effort = Effort.of(bundle, MANY, costly=True)
    assert [shot.prompt for shot in effort.listened] == [f"prompt {n}" for n in (0, 3, 6, 9)]
    assert (len(effort.judged), len(effort.measured)) == (2, 2)
    plan = effort.listened[0].plan(bundle)
    assert (plan.width, plan.height, plan.frames) == (32, 16, 5)
    assert plan.steps == 4  # the other schedule has two, which is too few to hear all noise levels
    seeds = [
        shot.seed for part in (effort.listened, effort.judged, effort.measured) for shot in part
    ]
    assert len(set(seeds)) == len(seeds)


def test_of_many_steps_as_few_as_will_do(tmp_path: Path) -> None:
    bundle = open_bundle(write_choosy_bundle(tmp_path / "bundle")).bundle
    levels = tuple(np.linspace(1, 0.1, 8).tolist())
    sampler = msgspec.structs.replace(
        bundle.sampler,
        sigmas=levels,
        timesteps=(),
        schedules=tuple(Schedule(sigmas=levels[:n]) for n in (2, 5, 6)),
    )
    bundle = msgspec.structs.replace(bundle, sampler=sampler, tiers=())
    assert Effort.of(bundle, MANY, costly=True).listened[0].plan(bundle).steps == 5
    assert Effort.of(bundle, MANY, costly=False).listened[0].plan(bundle).steps == 8


def test_a_model_that_joins_blocks_joins_two(tmp_path: Path) -> None:
    bundle = open_bundle(write_causal_bundle(tmp_path / "bundle")).bundle
    assert Effort.of(bundle, MANY, costly=True).listened[0].frames == 21  # of blocks of 9 and 12


def test_what_is_asked_for_is_done(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle).bundle
    effort = Effort.of(bundle, MANY, costly=True, clips=6, frames=9)
    assert (len(effort.listened), len(effort.judged), len(effort.measured)) == (6, 3, 3)
    assert effort.listened[0].frames == 9
    with pytest.raises(ShotError, match="does not make that many frames; choose 9"):
        Effort.of(bundle, MANY, costly=True, frames=7)


def test_settings_of_before_mean_what_they_meant(typed_tiny: Path) -> None:
    opened = open_bundle(typed_tiny)
    prints = {
        fingerprint(opened, PROMPTS, settings)
        for settings in (LENIENT, Settings(clips=2), Settings(frames=5), Settings())
    }
    assert len(prints) == 4


def test_what_smoothing_does_is_foreseen(typed_tiny: Path) -> None:
    """Against what is heard when the smoothed graphs are listened to."""
    opened = open_bundle(typed_tiny)
    stage = Stage(opened)
    networks: dict[Role, Network] = {}
    for role in ROLES:
        spec = opened.bundle.graph(role, "fp16")
        model = split_products(onnx.load(opened.path(spec.file)))
        found = survey(model)
        networks[role] = Network(spec, model, found.layers, found.left_out, {})
    shots = [Shot("a red truck", seed=n) for n in range(4)]
    heard = capture(stage, networks, shots, lambda _: None)
    for role, network in networks.items():
        chosen = {
            activation: choose_smoothing(
                group,
                heard[role].rows,
                network.matrices(),
                heard[role].statistics[activation].channel_amax,
                FORMATS["int8"],
            )
            for activation, group in groups(network.layers).items()
        }
        networks[role] = Network(
            network.spec,
            network.model,
            network.layers,
            network.left_out,
            {name: smoothing for name, smoothing in chosen.items() if smoothing},
        )
    assert all(network.smoothing for network in networks.values())
    smooth = {role: network.smoothed() for role, network in networks.items()}
    listened = capture(stage, smooth, shots, lambda _: None)
    for role, network in networks.items():
        foreseen = heard[role].smoothed(network, smooth[role])
        assert foreseen.statistics.keys() == listened[role].statistics.keys()
        for name, wanted in listened[role].statistics.items():
            given = foreseen.statistics[name]
            # The smoothed graph rounds other values to float16: each by 2^-11, and it adds up.
            assert given.channel_amax == pytest.approx(wanted.channel_amax, rel=1e-2)
            assert given.histogram.amax == pytest.approx(wanted.histogram.amax, rel=1e-2)
        for output, rows in listened[role].rows.items():
            powers = [np.square(r, dtype=np.float64).mean() for r in (foreseen.rows[output], rows)]
            assert abs(decibel(powers[0], powers[1])) < 1  # two samples of the same


def test_the_ends_of_a_graph(typed_tiny: Path) -> None:
    opened = open_bundle(typed_tiny)
    model = split_products(onnx.load(opened.path("denoiser.fp16.onnx")))
    found = survey(model)
    network = Network(opened.bundle.graph("denoiser", "fp16"), model, found.layers, {}, {})
    # Before and behind all of these are layers that are too narrow to be quantised.
    assert end_units(model, network.units) == {}
    nodes = [node for node in model.graph.node if node.name not in {"embed", "out"}]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert set(end_units(model, network.units)) == {"qkv.0", "down"}


@pytest.fixture(scope="module")
def as_large(typed_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, calibrated as if it were gigabytes."""
    root = tmp_path_factory.mktemp("large") / "bundle"
    shutil.copytree(typed_tiny, root)
    assert calibrate_bundle(root, PROMPTS, LENIENT, limits=LARGE) == report_path(root, "int8")
    return root


def test_a_large_bundle_is_calibrated_with_less(as_large: Path) -> None:
    report = read_report(as_large)
    assert report.clip == "64x48, 5 frames, 2 steps, drawn by the vae_decoder"
    assert report.range_psnr_db.keys() == {"chosen"}
    assert (report.jury_clips, report.measured["int8"].clips) == (2, 1)
    assert all(layer.graph_snr_db is None for layer in report.layers)
    assert report.measured["int8"].psnr_db > 25
    text = report_path(as_large, "int8").with_suffix(".md").read_text("utf-8")
    assert "not measured" in text
    assert not list(as_large.glob(".calibration*"))


def test_its_graphs_have_their_weights_beside_them(as_large: Path) -> None:
    opened = open_bundle(as_large)  # verified
    for role in ("denoiser", "vae_decoder"):
        spec = opened.bundle.graph(role, "int8")
        assert [data.file for data in spec.external_data] == [f"{role}.int8.onnx.data"]
        onnx.checker.check_model(opened.path(spec.file), full_check=True)
        assert any(
            n.op_type == "QuantizeLinear" for n in onnx.load(opened.path(spec.file)).graph.node
        )
    before = contents(as_large)
    assert calibrate_bundle(as_large, PROMPTS, LENIENT, limits=LARGE) is None
    assert contents(as_large) == before


def test_where_the_weights_are_changes_little(typed_tiny: Path, tmp_path: Path) -> None:
    """Only what is listened to: more is rounded to float16 where weights are in files."""
    made: list[dict[str, onnx.ModelProto]] = []
    for name, in_memory in (("graph", 1 << 30), ("files", 1000)):
        root = tmp_path / name
        shutil.copytree(typed_tiny, root)
        limits = Limits(costly=1000, in_memory=in_memory)
        calibrate_bundle(root, PROMPTS, LENIENT, limits=limits)
        made.append({role: onnx.load(root / f"{role}.int8.onnx") for role in ROLES})
    for role, inputs, output in (
        ("denoiser", denoiser_inputs(), "velocity"),
        ("vae_decoder", decoder_inputs(), "frames"),
    ):
        models = [part[role] for part in made]
        assert len({tuple(node.op_type for node in model.graph.node) for model in models}) == 1
        first, second = (run(model, inputs)[output] for model in models)
        assert snr(first, second) > 25


def test_no_more_than_a_quarter_stays_high(typed_tiny: Path, tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    shutil.copytree(typed_tiny, root)
    told: list[str] = []
    # float16 reaches it, and int8 by no choice of layers.
    calibrate_bundle(root, PROMPTS, Settings(target_psnr=52), limits=LARGE, tell=told.append)
    report = read_report(root)
    kept = [layer for layer in report.layers if layer.kept]
    assert 0 < len(kept) <= len(report.layers) / 4
    assert "under the 52 dB asked for" in report.shortfall
    assert report.shortfall in told


def test_the_command_takes_frames(typed_tiny: Path, tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    shutil.copytree(typed_tiny, root)
    words = [str(root), "--prompts", "2", "--frames", "5", "--target-psnr", "20"]
    made = CliRunner().invoke(command, words)
    assert made.exit_code == 0, made.output
    assert read_report(root).clip.startswith("64x48, 5 frames")
    assert read_report(root).calibration_prompts == 2
