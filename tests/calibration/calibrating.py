"""What the tests of whole calibrations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from animatic_calibration.calibrate import Settings
from animatic_calibration.prompts import PromptSplit
from animatic_calibration.publish import report_path
from animatic_calibration.report import Report

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = PromptSplit(("a red truck", "a blue car at night"), ("a green ball",))
LENIENT = Settings(target_psnr=20)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read_report(root: Path, precision: str = "int8") -> Report:
    return msgspec.json.decode(report_path(root, precision).read_bytes(), type=Report)
