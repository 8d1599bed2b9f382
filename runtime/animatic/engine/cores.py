"""How many processor cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Count the cores of our affinity mask, or fewer where a container's quota gives fewer.

    A runtime that starts a thread for every core of a 64-core host inside a container of two
    spends its time being throttled.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_quota(membership: Path, mount: Path) -> float | None:
    """Find the least cpu.max of our cgroup (version 2) and its parents, in cores; None if unset."""
    try:
        # Version 2 is the one line "0::/path".
        lines = membership.read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    folder = mount / path.strip().lstrip("/")
    quotas = []
    for level in (folder, *folder.parents):
        if not level.is_relative_to(mount):
            break
        try:
            quota, period = (level / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        # No such file at the root of the host, and "max" where there is no limit.
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)
