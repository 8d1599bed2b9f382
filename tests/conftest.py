from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.once import once
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and the processes they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole bundle with real ONNX graphs: 9 or 5 frames of 64x48 at 8/1.

    It also offers 8,001 frames, for whoever needs a render that lasts.
    """
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def half_blockout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Blockout with its fp16 graphs too; copy it before changing it.

    Exported by torch, which is imported here because most tests do without.
    """
    from animatic.store import shipped_bundle_path
    from animatic_export.typed_graphs import add_typed_graphs

    def make(root: Path) -> None:
        shutil.copytree(shipped_bundle_path(), root)
        add_typed_graphs(root, "fp16")

    return once(tmp_path_factory, "blockout-fp16", make)


@pytest.fixture(scope="session")
def typed_blockout(half_blockout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Blockout with fp16 and int8 graphs, calibrated on four prompts."""
    from animatic_calibration.calibrate import Settings, calibrate_bundle
    from animatic_calibration.prompts import built_in_prompts, split_prompts

    def make(root: Path) -> None:
        shutil.copytree(half_blockout, root)
        calibrate_bundle(root, split_prompts(built_in_prompts(), 4), Settings())

    return once(tmp_path_factory, "blockout-int8", make)
