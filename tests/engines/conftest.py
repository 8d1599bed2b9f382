from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.building import build, needs_compiler
from tests.engines.small_bundle import write_small_bundle

if TYPE_CHECKING:
    from animatic_engines.build import Outcome


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one attention in fp16 and int8, and no engines. Not to be written to."""
    return write_small_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A small bundle of one's own."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def built_bundle(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with a real int8 engine. Not to be written to."""
    needs_compiler()
    root = Path(shutil.copytree(small_bundle, tmp_path_factory.mktemp("built") / "bundle"))
    build(root, precision="int8")
    return root


@pytest.fixture
def built(built_bundle: Path, tmp_path: Path) -> Path:
    """A small bundle of one's own, with a real int8 engine."""
    return Path(shutil.copytree(built_bundle, tmp_path / "built"))


@pytest.fixture
def outcome(built: Path) -> Outcome:
    """What a build says of the engine that is there."""
    (found,) = build(built, precision="int8")
    return found
