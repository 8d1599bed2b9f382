from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole bundle with real ONNX graphs: 9 or 5 frames of 64x48 at 8/1.

    It also offers 8,001 frames, for whoever needs a render that lasts.
    """
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")
