from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from animatic.bundle import EngineEntry, FileRef, GraphSpec
from animatic.errors import BundleIntegrityError, OutputError
from animatic.store import add_graphs, open_bundle, sha256_file, write_bundle

replace = msgspec.structs.replace


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def staged_graph(bundle: Path, staged: Path, content: bytes) -> GraphSpec:
    staged.mkdir(exist_ok=True)
    (staged / "denoiser.fp16.onnx").write_bytes(content)
    return replace(
        open_bundle(bundle, verify=False).bundle.graph("denoiser"),
        precision="fp16",
        file="denoiser.fp16.onnx",
        sha256=sha256_file(staged / "denoiser.fp16.onnx"),
        external_data=(),
    )


def with_engine(bundle: Path, spec: GraphSpec) -> None:
    (bundle / "d.plan").write_bytes(b"plan")
    (bundle / "d.json").write_bytes(b"{}")
    entry = EngineEntry(
        role=spec.role,
        precision=spec.precision,
        target="rtx-40",
        backend="tensorrt_rtx",
        backend_version="1",
        profile=(),
        flags={},
        file="d.plan",
        sha256=sha256_file(bundle / "d.plan"),
        fingerprint="0" * 64,
        sidecar=FileRef(file="d.json", sha256=sha256_file(bundle / "d.json")),
    )
    opened = open_bundle(bundle).bundle
    write_bundle(bundle, replace(opened, engines=(*opened.engines, entry)))


def test_a_graph_joins_and_the_reference_stays_first(bundle: Path, tmp_path: Path) -> None:
    before = open_bundle(bundle).bundle.graphs
    spec = staged_graph(bundle, tmp_path / "staged", b"one")
    add_graphs(bundle, [spec], tmp_path / "staged")
    after = open_bundle(bundle).bundle  # verified: the file is where its entry says
    assert after.graphs == (*before, spec)
    assert after.graph("denoiser") == before[[g.role for g in before].index("denoiser")]
    assert after.graph("denoiser", "fp16") == spec


def test_a_graph_that_is_replaced_takes_its_engines_with_it(bundle: Path, tmp_path: Path) -> None:
    first = staged_graph(bundle, tmp_path / "staged", b"one")
    add_graphs(bundle, [first], tmp_path / "staged")
    with_engine(bundle, first)
    second = staged_graph(bundle, tmp_path / "staged", b"two")
    add_graphs(bundle, [second], tmp_path / "staged")
    after = open_bundle(bundle).bundle
    assert after.graph("denoiser", "fp16").sha256 == second.sha256
    assert after.engines == ()
    assert not (bundle / "d.plan").exists()
    assert not (bundle / "d.json").exists()


def test_weights_beside_a_graph_come_and_go_with_it(bundle: Path, tmp_path: Path) -> None:
    staged, data = tmp_path / "staged", "denoiser.fp16.onnx.data"
    first = staged_graph(bundle, staged, b"one")
    (staged / data).write_bytes(b"weights")
    weights = FileRef(file=data, sha256=sha256_file(staged / data))
    add_graphs(bundle, [replace(first, external_data=(weights,))], staged)
    open_bundle(bundle)  # verified
    assert not list(staged.iterdir())
    add_graphs(bundle, [staged_graph(bundle, staged, b"two")], staged)
    open_bundle(bundle)
    assert (bundle / "denoiser.fp16.onnx").read_bytes() == b"two"
    assert not (bundle / data).exists()


def test_the_engines_of_other_graphs_stay(bundle: Path, tmp_path: Path) -> None:
    with_engine(bundle, open_bundle(bundle).bundle.graph("vae_decoder"))
    spec = staged_graph(bundle, tmp_path / "staged", b"one")
    add_graphs(bundle, [spec], tmp_path / "staged")
    assert len(open_bundle(bundle).bundle.engines) == 1


@pytest.mark.parametrize("killed_at", ["move", "name"])
def test_the_bundle_is_whole_wherever_it_breaks_off(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    first = staged_graph(bundle, tmp_path / "staged", b"one")
    add_graphs(bundle, [first], tmp_path / "staged")
    with_engine(bundle, first)
    second = staged_graph(bundle, tmp_path / "staged", b"two")
    real = Path.replace
    moves: list[Path] = []

    def breaking(source: Path, target: Path) -> Path:
        moves.append(target)
        # The writes: bundle.json without the old graph, the graph, bundle.json with the new one.
        if len(moves) == (2 if killed_at == "move" else 3):
            raise KeyboardInterrupt
        return real(source, target)

    monkeypatch.setattr(Path, "replace", breaking)
    with pytest.raises(KeyboardInterrupt):
        add_graphs(bundle, [second], tmp_path / "staged")
    after = open_bundle(bundle).bundle
    assert [graph.precision for graph in after.graphs if graph.role == "denoiser"] == ["float32"]


def test_a_file_that_is_not_there_is_said_in_a_sentence(bundle: Path, tmp_path: Path) -> None:
    spec = staged_graph(bundle, tmp_path / "staged", b"one")
    (tmp_path / "staged" / spec.file).unlink()
    with pytest.raises(OutputError, match=r"cannot be written .*; choose a folder"):
        add_graphs(bundle, [spec], tmp_path / "staged")
    assert len(open_bundle(bundle).bundle.graphs) == 3


def test_a_damaged_derived_graph_is_made_again_without_the_rest(
    bundle: Path, tmp_path: Path
) -> None:
    fp16 = replace(staged_graph(bundle, tmp_path / "staged", b"one"), made_from="a" * 64)
    add_graphs(bundle, [fp16], tmp_path / "staged")
    (bundle / fp16.file).write_bytes(b"cut")
    with pytest.raises(BundleIntegrityError, match=r"`animatic export \S+ --precision fp16 --out "):
        open_bundle(bundle)
    (bundle / fp16.file).write_bytes(b"one")
    staged_graph(bundle, tmp_path / "staged", b"two")
    int8 = replace(fp16, precision="int8", file="denoiser.int8.onnx", sha256="0" * 64)
    (tmp_path / "staged" / int8.file).write_bytes(b"eight")
    add_graphs(bundle, [int8], tmp_path / "staged")
    with pytest.raises(BundleIntegrityError, match=r"`animatic calibrate \S+ --precision int8`"):
        open_bundle(bundle)
