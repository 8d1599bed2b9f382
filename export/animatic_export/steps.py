"""What follows the reference graphs of a bundle: the precisions that are asked for, then engines.

Each step leaves a whole bundle and is not done again while what it was made from is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.targets import Target

CALIBRATED: Final = frozenset({"int8", "fp8"})
CALIBRATION_PROMPTS: Final = 12


def wanted_precisions(precision: str | None, targets: tuple[Target, ...]) -> list[str]:
    """Return the precisions needed: the one asked for, or what each target computes in best."""
    if precision is not None:
        return [precision]
    return sorted({target.default_precision for target in targets if target.compute_capability})


def add_precision(bundle: Path, precision: str, say: Callable[[str], None]) -> None:
    """Add the graphs of a precision to a bundle; "int8" and "fp8" are calibrated from "fp16".

    say: told of every step. ExportError, or an AnimaticError of the calibration.
    """
    from animatic_export.typed_graphs import add_typed_graphs

    typed = "fp16" if precision in CALIBRATED else precision
    errors = add_typed_graphs(bundle, typed)
    for role, error in errors.items():
        say(f"{role}: {typed}, relative error against float32 {error:.1e}")
    if not errors:
        say(f"{typed} graphs: up to date")
    if precision in CALIBRATED:
        _calibrate(bundle, precision, say)


def _calibrate(bundle: Path, precision: str, say: Callable[[str], None]) -> None:
    from animatic_calibration.calibrate import Settings, calibrate_bundle
    from animatic_calibration.prompts import built_in_prompts, split_prompts

    prompts = split_prompts(built_in_prompts(), CALIBRATION_PROMPTS)
    report = calibrate_bundle(bundle, prompts, Settings(precision), tell=say)
    if report is None:
        say(f"{precision} graphs: up to date")
    else:
        say(f"{precision} graphs: see {report.with_suffix('.md')}")
