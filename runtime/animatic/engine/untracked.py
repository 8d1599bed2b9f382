"""ONNX Runtime, imported so that it does not phone home.

From 1.32 on its wheels write a device identity into the user's cache when they are imported, and
send usage to their maker. Nobody who renders on a rig without a cloud has agreed to that. The
switch is an environment variable that is read by the import, so every import of onnxruntime goes
through here; whoever has set the variable themselves keeps their choice.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_onnxruntime"]

SWITCH: Final = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off; ImportError as the import itself."""
    late = "onnxruntime" in sys.modules
    os.environ.setdefault(SWITCH, "1")
    module = importlib.import_module("onnxruntime")
    if late and os.environ[SWITCH] == "1":
        module.disable_telemetry_events()  # whoever imported it first did so without the switch
    return module
