"""A pipeline from a folder: real graphs, a real tokenizer, and every way in which a file is bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from animatic.engine import OnnxRuntimeEngine
from animatic.errors import BundleIntegrityError, BundleSchemaError, EngineError
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import open_bundle, write_bundle
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role

SHOT = Shot("a red cube turns", seed=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


def test_a_folder_makes_clips(folder: Path) -> None:
    with Pipeline.open(folder) as pipeline:
        clip = pipeline.clip(SHOT)
        plan = SHOT.plan(pipeline.bundle.bundle)
        assert clip.shape == (plan.frames, plan.height, plan.width, 3)
        np.testing.assert_array_equal(pipeline.clip(SHOT), clip)
        assert (pipeline.clip(Shot(SHOT.prompt, seed=6)) != clip).any()
        assert pipeline.record(SHOT).bundle_sha256 == open_bundle(folder).digest
    with Pipeline.open(str(folder), threads=1, verify=False) as pipeline:
        np.testing.assert_array_equal(pipeline.clip(SHOT), clip)


def test_a_changed_graph(folder: Path) -> None:
    path = folder / "denoiser.onnx"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BundleIntegrityError, match=r"denoiser\.onnx is truncated or changed"):
        Pipeline.open(folder)
    with pytest.raises(EngineError, match=r"denoiser\.onnx is truncated or not an ONNX file"):
        Pipeline.open(folder, verify=False)


@pytest.mark.parametrize("role", ["text_encoder", "denoiser", "vae_decoder"])
def test_a_missing_graph(folder: Path, role: Role) -> None:
    bundle = open_bundle(folder).bundle
    graphs = tuple(graph for graph in bundle.graphs if graph.role != role)
    write_bundle(folder, msgspec.structs.replace(bundle, graphs=graphs))
    with pytest.raises(BundleSchemaError, match=f"has no {role} graph; export the bundle again"):
        Pipeline.open(folder)


def test_what_was_opened_is_closed_when_the_next_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    closed: list[str] = []

    class Watched(OnnxRuntimeEngine):
        def __init__(self, path: Path, spec: GraphSpec, *, threads: int | None = None) -> None:
            if spec.role == "vae_decoder":
                raise KeyboardInterrupt
            super().__init__(path, spec, threads=threads)
            opened.append(spec.role)

        def close(self) -> None:
            closed.append(self.spec.role)
            super().close()

    monkeypatch.setattr("animatic.engine.parts.OnnxRuntimeEngine", Watched)
    with pytest.raises(KeyboardInterrupt):
        Pipeline.open(folder)
    assert opened == closed == ["text_encoder", "denoiser"]
