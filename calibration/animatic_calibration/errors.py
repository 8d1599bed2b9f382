"""What can go wrong in a calibration that is the user's to mend; each message says how."""

from __future__ import annotations

from animatic.errors import AnimaticError

__all__ = ["CalibrationError"]


class CalibrationError(AnimaticError):
    """A bundle cannot be calibrated as asked."""
