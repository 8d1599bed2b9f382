"""How much memory there is and was used, where the system tells."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["available_memory", "peak_rss"]

_KIB = 1024


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a new process can have without swapping; None where there is no /proc.

    What the kernel reckons to be available, or what the control group still allows (a container's
    limit), whichever is less. root: where proc and sys are mounted, for tests.
    """
    counts = [_in_kib(root / "proc/meminfo", "MemAvailable")]
    group = root / "sys/fs/cgroup"
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and used is not None:
        # Pages of files that were read count as used and are given back at need.
        counts.append(limit - used + (_in_bytes(group / "memory.stat", "inactive_file") or 0))
    known = [count for count in counts if count is not None]
    return max(0, min(known)) if known else None


def peak_rss() -> int | None:
    """This process's largest resident set so far, in bytes; None where the system does not tell.

    Linux's ru_maxrss would not do: a child starts with its parent's.
    """
    return _in_kib(Path("/proc/self/status"), "VmHWM")


def _in_kib(path: Path, field: str) -> int | None:
    match = re.search(rf"^{field}:\s+(\d+) kB$", _text(path), re.MULTILINE)
    return int(match[1]) * _KIB if match else None


def _in_bytes(path: Path, field: str) -> int | None:
    match = re.search(rf"^{field} (\d+)$", _text(path), re.MULTILINE)
    return int(match[1]) if match else None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
