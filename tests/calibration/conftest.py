from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from animatic_calibration.calibrate import calibrate_bundle
from animatic_calibration.publish import report_path
from tests.calibration.calibrating import LENIENT, PROMPTS
from tests.calibration.typed_model import write_typed_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def typed_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny bundle with float16 graphs; copy it before changing it."""
    return write_typed_bundle(tmp_path_factory.mktemp("typed") / "bundle")


@pytest.fixture(scope="session")
def calibrated(typed_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, calibrated to int8; copy it before changing it."""
    root = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(typed_tiny, root)
    assert calibrate_bundle(root, PROMPTS, LENIENT) == report_path(root, "int8")
    return root


@pytest.fixture
def copy(typed_tiny: Path, tmp_path: Path) -> Path:
    """A bundle with float16 graphs that may be changed."""
    return shutil.copytree(typed_tiny, tmp_path / "bundle")


@pytest.fixture
def second(calibrated: Path, tmp_path: Path) -> Path:
    """A calibrated bundle that may be changed."""
    return shutil.copytree(calibrated, tmp_path / "bundle")
