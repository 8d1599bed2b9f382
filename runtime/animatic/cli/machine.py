"""What this machine and this process are, as far as the system tells."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

__all__ = ["memory_gib", "peak_memory_mib", "processor"]


def processor() -> str:
    """The processor's name, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())  # ARM's cpuinfo names no model


def memory_gib() -> float | None:
    """Physical memory in GiB; None where the system does not tell (Windows)."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def peak_memory_mib() -> float | None:
    """The most memory that this process ever held, in MiB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
