from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.calibration.typed_model import write_typed_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def typed_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny bundle with float16 graphs; copy it before changing it."""
    return write_typed_bundle(tmp_path_factory.mktemp("typed") / "bundle")
