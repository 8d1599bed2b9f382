from __future__ import annotations

from tests.export.traced import traced_once

__all__ = ["traced_once"]
