"""Real builds, by TensorRT-RTX, of the kinds of graph that a photoreal model has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from animatic.errors import BundleIntegrityError
from animatic.fingerprint import fresh
from animatic.store import open_bundle, write_bundle
from animatic.targets import find_target
from animatic_engines.build import Request, build_engines
from animatic_engines.choices import Backend
from animatic_engines.cli import command
from animatic_engines.errors import BuildError, GraphError
from animatic_engines.order import Order
from animatic_engines.single import _size
from tests.engines.building import PLENTY, build, needs_compiler
from tests.engines.roles_bundle import shape_deciding_graph, write_roles_bundle
from tests.engines.small_bundle import TARGET

if TYPE_CHECKING:
    from animatic_engines.build import Outcome

replace = msgspec.structs.replace
DATA = "denoiser.fp16.onnx.data"


@pytest.fixture(autouse=True)
def _compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def roles_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with its engines but the text encoder's. Not to be written to."""
    needs_compiler()
    root = write_roles_bundle(tmp_path_factory.mktemp("roles") / "bundle")
    build(root)
    return root


@pytest.fixture
def bundle(roles_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(roles_bundle, tmp_path / "bundle"))


def profiles(root: Path) -> dict[str, dict[str, tuple[int, int, int]]]:
    return {
        entry.role: {a.axis: (a.minimum, a.optimum, a.maximum) for a in entry.profile}
        for entry in open_bundle(root).bundle.engines
    }


def built_again(root: Path, *, text: bool = False) -> list[Outcome]:
    request = Request((find_target(TARGET),), "fp16", text=text)
    return list(
        build_engines(
            root,
            request,
            on_step=lambda _order, _step: None,
            on_wait=lambda: None,
            room=lambda _folder: PLENTY,
        )
    )


def test_every_graph_but_a_costly_text_encoder_is_built(roles_bundle: Path) -> None:
    entries = open_bundle(roles_bundle).bundle.engines
    assert [(e.role, e.precision) for e in entries] == [
        ("denoiser", "fp16"),
        ("vae_decoder", "fp16"),
        ("tiny_decoder", "fp16"),
    ]
    grid = {"batch": (1, 1, 1), "rows": (2, 6, 6), "columns": (4, 8, 8)}
    assert profiles(roles_bundle) == {
        "denoiser": {**grid, "frames": (3, 3, 3)},
        "vae_decoder": {**grid, "frames": (3, 3, 3)},
        "tiny_decoder": grid,
    }


def test_a_text_encoder_in_bfloat16_is_built_if_asked_and_then_kept(bundle: Path) -> None:
    text, *others = built_again(bundle, text=True)
    assert (text.entry.role, text.entry.precision, text.built) == ("text_encoder", "bf16", True)
    assert not any(outcome.built for outcome in others)
    assert text.sidecar.layers.gemms == {"bfloat16": 1}
    assert profiles(bundle)["text_encoder"]["tokens"] == (1, 16, 16)
    # Now that it is there, it stays right without being asked for.
    (bundle / text.entry.file).write_bytes(b"damaged")
    (again,) = [outcome for outcome in built_again(bundle) if outcome.built]
    assert again.entry.role == "text_encoder"


def test_the_command_says_that_it_was_left_out(bundle: Path) -> None:
    ran = CliRunner().invoke(command, [str(bundle), "--target", TARGET, "--precision", "fp16"])
    assert ran.exception is None
    assert len(ran.stdout.splitlines()) == 4
    assert "stays on the processor; --text builds an engine for it" in ran.stderr
    options = ["--target", TARGET, "--precision", "fp16", "--text"]
    ran = CliRunner().invoke(command, [str(bundle), *options])
    assert ran.exception is None
    assert ran.stdout.startswith("text_encoder bf16 rtx-40 ")
    assert "--text" not in ran.stderr


def test_weights_beside_a_graph_count(bundle: Path) -> None:
    opened = open_bundle(bundle)
    graph = opened.bundle.graph("denoiser", "fp16")
    entry = next(e for e in opened.bundle.engines if e.role == "denoiser")
    order = Order.of(opened.bundle, graph, find_target(TARGET), Backend("tensorrt_rtx", "1"))
    files = [bundle / graph.file, bundle / DATA]
    assert _size(opened, order) == sum(path.stat().st_size for path in files)
    assert (bundle / entry.file).stat().st_size > (bundle / DATA).stat().st_size
    assert fresh(entry, graph)
    other = (replace(graph.external_data[0], sha256="0" * 64),)
    assert not fresh(entry, replace(graph, external_data=other))


def test_damaged_weights_are_refused(bundle: Path) -> None:
    data = bundle / DATA
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BundleIntegrityError, match=r"fp16\.onnx\.data is truncated or changed"):
        build(bundle)
    data.unlink()
    with pytest.raises(BundleIntegrityError, match=r"fp16\.onnx\.data of the bundle is missing"):
        build(bundle)


def test_an_input_that_decides_shapes_is_refused(bundle: Path) -> None:
    graph = shape_deciding_graph(bundle)
    opened = open_bundle(bundle, verify=False).bundle
    others = [g for g in opened.graphs if (g.role, g.precision) != ("denoiser", "fp16")]
    engines = tuple(e for e in opened.engines if e.role != "denoiser")
    write_bundle(bundle, replace(opened, graphs=(*others, graph), engines=engines))
    words = r"its input 'position' decides by its values how large other tensors are, .*; export"
    with pytest.raises(GraphError, match=words):
        build(bundle)


def test_a_target_without_bfloat16(bundle: Path) -> None:
    """It has no engine for the text encoder, and needs none."""
    request = Request((find_target("rtx-20"),), "fp16", text=True)
    with pytest.raises(BuildError, match="no text_encoder graph for engines"):
        request.graphs_for(open_bundle(bundle).bundle, request.targets[0])
    graphs = request._replace(text=False).graphs_for(open_bundle(bundle).bundle, request.targets[0])
    assert [graph.role for graph in graphs] == ["denoiser", "vae_decoder", "tiny_decoder"]
