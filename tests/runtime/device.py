"""What tests that need a GPU begin with."""

from __future__ import annotations

import pytest

from animatic.engine.cuda import Device, find_devices
from animatic.errors import EngineError


def require_device() -> Device:
    """The first GPU, or the test is skipped with the reason why there is none."""
    try:
        return find_devices()[0]
    except EngineError as error:
        pytest.skip(str(error))


def require_no_device() -> None:
    """Skips what only a machine without a GPU can show."""
    try:
        device = find_devices()[0]
    except EngineError:
        return
    pytest.skip(f"this machine has a GPU: {device.name}")
