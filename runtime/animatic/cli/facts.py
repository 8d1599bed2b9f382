"""How a value of a report is shown to a person."""

from __future__ import annotations

__all__ = ["shown"]


def shown(value: object) -> str:
    """A fact in words: yes and no, lists with commas, ``unknown`` for None."""
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name} {part}" for name, part in value.items())
        case list():
            return ", ".join(map(str, value))
        case None:
            return "unknown"
        case _:
            return str(value)
