"""The record as plain ASCII, for containers whose text fields are older than Unicode."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from animatic.record import GenerationRecord

__all__ = ["ascii_json"]


def ascii_json(record: GenerationRecord) -> str:
    r"""The record's JSON with every other character as ``\uXXXX``; any JSON reader undoes it."""
    return json.dumps(json.loads(record.to_json()), ensure_ascii=True, separators=(",", ":"))
