"""Real builds of one small attention with TensorRT-RTX, for a card that is not here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from animatic.errors import BundleIntegrityError
from animatic.fingerprint import fresh
from animatic.store import open_bundle, write_bundle
from animatic_engines.cli import command
from animatic_engines.errors import CompilerError, GraphError
from animatic_engines.layers import Layer
from animatic_engines.sidecar import decode_sidecar
from tests.engines.building import build, contents, left_as_it_was, needs_compiler
from tests.engines.small_bundle import (
    INPUT,
    LINEARS,
    TARGET,
    attention_graph,
    graph_with,
    replace_graph,
)

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_engines.build import Outcome

STEM = f"engines/{TARGET}/denoiser.int8.tensorrt_rtx"


@pytest.fixture(autouse=True)
def _compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_an_engine_joins_the_bundle(built: Path) -> None:
    opened = open_bundle(built)  # verified: plan and sidecar are where the entry says
    (entry,) = opened.bundle.engines
    graph = opened.bundle.graph("denoiser", "int8")
    assert (entry.role, entry.precision, entry.target) == ("denoiser", "int8", TARGET)
    assert entry.file == f"{STEM}.plan"
    assert [(a.axis, a.minimum, a.optimum, a.maximum) for a in entry.profile] == [
        ("batch", 1, 1, 1),
        ("tokens", 16, 16, 16),  # this bundle's prompts are padded
    ]
    assert fresh(entry, graph)
    endings = {name.removeprefix(STEM) for name in contents(built) if name.startswith(STEM)}
    assert endings == {".plan", ".json", ".log", ".layers.json"}
    assert not (built / "engines" / ".building").exists()


def test_the_sidecar_tells_what_the_plan_will_not(built: Path) -> None:
    sidecar = decode_sidecar((built / f"{STEM}.json").read_bytes())
    assert sidecar.inputs == (INPUT,)
    assert sidecar.plan_bytes == (built / f"{STEM}.plan").stat().st_size
    assert sidecar.seconds > 0
    assert sidecar.peak_rss is None or sidecar.peak_rss > 50 << 20
    assert sidecar.layers.gemms == {"int8": 2}  # three of the four linears are one gemm
    assert sidecar.layers.attentions == {"float16": 1}
    assert sidecar.warnings == ()
    assert sidecar.ran_on == ""
    assert sidecar.backend_version.startswith("1.")


def test_every_linear_of_the_int8_graph_is_in_an_int8_gemm(built: Path) -> None:
    layers = msgspec.json.decode((built / f"{STEM}.layers.json").read_bytes(), type=list[Layer])
    gemms = [layer for layer in layers if layer.type == "gemm"]
    assert {name for gemm in gemms for name in gemm.onnx} >= set(LINEARS)
    assert {gemm.inputs[0].dtype for gemm in gemms} == {"int8"}


def test_the_log_is_the_whole_of_it(built: Path) -> None:
    log = (built / f"{STEM}.log").read_text("utf-8")
    assert "VERBOSE Layers:\n" in log
    assert "Adding network input: text_states" in log


def test_an_unchanged_build_is_not_done_again(built: Path) -> None:
    with left_as_it_was(built):
        (found,) = build(built, precision="int8")
    assert not found.built


def test_force_builds_and_leaves_no_second_engine(built: Path) -> None:
    before = open_bundle(built).bundle.engines
    (found,) = build(built, precision="int8", force=True)
    after = open_bundle(built).bundle.engines
    assert found.built
    assert [e.fingerprint for e in after] == [e.fingerprint for e in before]


def test_a_changed_graph_is_built_again(built: Path) -> None:
    before = open_bundle(built).bundle.engines
    replace_graph(built, attention_graph("int8", seed=1), "int8")
    (found,) = build(built, precision="int8")
    assert found.built
    after = open_bundle(built).bundle.engines
    assert len(after) == 1
    assert after[0].fingerprint != before[0].fingerprint
    assert after[0].sha256 != before[0].sha256


@pytest.mark.parametrize("ending", [".plan", ".json"])
def test_a_damaged_engine_is_built_again(built: Path, ending: str) -> None:
    path = built / (STEM + ending)
    path.write_bytes(path.read_bytes()[:100])
    (found,) = build(built, precision="int8")
    assert found.built
    open_bundle(built)


def test_precisions_stand_side_by_side_and_the_command_says_what_it_did(built: Path) -> None:
    ran = CliRunner().invoke(command, [str(built), "--target", TARGET, "--precision", "fp16"])
    assert ran.exception is None
    line, path = ran.stdout.strip().split("\n")
    assert line.startswith("denoiser     fp16 rtx-40 ")
    assert "2 float16 gemms, 1 float16 fused attention; built" in line
    assert path == str(built)
    assert "nothing was run for rtx-40: " in ran.stderr
    assert len(open_bundle(built).bundle.engines) == 2
    again = CliRunner().invoke(command, [str(built), "--target", TARGET, "--precision", "fp16"])
    assert again.stdout.split("\n")[0] == line.replace("built", "fresh")
    assert again.stderr == ""


def test_quiet_prints_the_path_alone(built: Path) -> None:
    options = ["--target", f"{TARGET}, {TARGET}", "--precision", "int8", "-q"]
    ran = CliRunner().invoke(command, [str(built), *options])
    assert (ran.exception, ran.output) == (None, f"{built}\n")


def test_a_truncated_graph_is_refused(bundle: Path) -> None:
    path = bundle / "denoiser.fp16.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    before = contents(bundle)
    with pytest.raises(BundleIntegrityError, match=r"fp16\.onnx is truncated or changed .*; "):
        build(bundle)
    assert contents(bundle) == before


def test_a_file_that_is_no_graph_is_refused(bundle: Path) -> None:
    replace_graph(bundle, attention_graph("fp16"), "fp16")
    path = bundle / "denoiser.fp16.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    _says_its_hash(bundle)
    with (
        left_as_it_was(bundle),
        pytest.raises(GraphError, match=r"TensorRT-RTX \S+ cannot compile denoiser\.fp16\.onnx: "),
    ):
        build(bundle)


def _says_its_hash(root: Path) -> None:
    """Make bundle.json name the file as it is."""
    from animatic.store import sha256_file

    bundle = open_bundle(root, verify=False).bundle
    graphs = tuple(
        msgspec.structs.replace(graph, sha256=sha256_file(root / graph.file))
        for graph in bundle.graphs
    )
    write_bundle(root, msgspec.structs.replace(bundle, graphs=graphs))


def test_the_parser_s_refusal_names_the_node(bundle: Path) -> None:
    replace_graph(bundle, graph_with("Bernoulli"), "fp16")
    with left_as_it_was(bundle), pytest.raises(GraphError) as caught:
        build(bundle)
    sentence = str(caught.value)
    assert "cannot compile denoiser.fp16.onnx: at the Bernoulli node 'strange': " in sentence
    assert "export the bundle again; the build log is " in sentence
    assert sentence.count("\n") == 0


def test_the_log_of_a_failure_is_kept_outside_the_bundle(bundle: Path, tmp_path: Path) -> None:
    replace_graph(bundle, graph_with("Bernoulli"), "fp16")
    with pytest.raises(GraphError, match=r"the build log is (.*)\.$"):
        build(bundle)
    (log,) = (tmp_path / "state").rglob("build.log")
    assert "Bernoulli" in log.read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "words"}, "inputs and those in bundle.json differ by 'text_states'"),
        ({"dtype": "float16"}, "input 'text_states' is float32 and float16 in bundle.json"),
        ({"shape": ("batch", "tokens", 65)}, r"has the shape \[-1, -1, 64\] and \['batch'"),
    ],
)
def test_a_graph_that_is_not_what_bundle_json_says(
    bundle: Path, change: dict[str, object], words: str
) -> None:
    opened = open_bundle(bundle).bundle
    tensor = msgspec.convert(msgspec.to_builtins(INPUT) | change, type(INPUT))
    graphs = tuple(msgspec.structs.replace(graph, inputs=(tensor,)) for graph in opened.graphs)
    write_bundle(bundle, msgspec.structs.replace(opened, graphs=graphs))
    with left_as_it_was(bundle), pytest.raises(GraphError, match=words):
        build(bundle)


def test_what_the_card_cannot_do_is_the_compiler_s_refusal(bundle: Path) -> None:
    """bf16 on Turing: refused by targets.toml, so a target that claims it is made up."""
    from animatic.targets import find_target
    from animatic_engines.build import Request, build_engines
    from tests.engines.building import PLENTY

    claims = msgspec.structs.replace(find_target("rtx-40"), compute_capability=(8, 7))
    request = Request((claims,), "fp16")
    with left_as_it_was(bundle), pytest.raises(CompilerError, match=r"it does not know SM87"):
        list(
            build_engines(
                bundle, request, on_step=lambda _o, _s: None, on_wait=lambda: None,
                room=lambda _f: PLENTY,
            )
        )  # fmt: skip


def test_progress_rises_to_the_end(built: Path) -> None:
    told: list[float] = []
    build(built, precision="int8", force=True, on_step=lambda _o, step: told.append(step.fraction))
    assert told == sorted(told)
    assert told[-1] > 0.8


def test_the_description_is_json_for_other_tools(outcome: Outcome, built: Path) -> None:
    document = json.loads((built / outcome.entry.sidecar.file).read_text("utf-8"))
    assert document["layers"]["gemms"] == {"int8": 2}
    assert document["profile"][1]["axis"] == "tokens"
