"""What a graph computes and what an engine was made from, each in one hash.

Two builds of one graph differ in their bytes, so an engine says nothing about whether it is still
the right one; only what went into its build does: equal fingerprints need no new build.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.bundle import AxisRange, EngineEntry, GraphSpec

__all__ = ["engine_fingerprint", "fresh", "graph_digest"]


def graph_digest(graph: GraphSpec) -> str:
    """Hash what a graph computes, as SHA-256 in hex: its file and its weights, wherever they lie.

    A large model's weights are files of their own, and its graph's file is the same for every
    checkpoint.
    """
    weights = sorted([data.file, data.sha256] for data in graph.external_data)
    return hashlib.sha256(json.dumps([graph.sha256, weights]).encode()).hexdigest()


def engine_fingerprint(
    graph: GraphSpec,
    *,
    target: str,
    backend: str,
    backend_version: str,
    profile: tuple[AxisRange, ...],
    flags: Mapping[str, str],
) -> str:
    """Hash all that goes into a build, as SHA-256 in hex; the fields are those of EngineEntry.

    The graph counts by its role, precision and the hashes of its files, weights included.
    """
    parts = {
        "graph": [graph.role, graph.precision, graph.sha256],
        "external_data": sorted([data.file, data.sha256] for data in graph.external_data),
        "target": target,
        "backend": [backend, backend_version],
        "profile": msgspec.to_builtins(sorted(profile, key=lambda axis: axis.axis)),
        "flags": dict(flags),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def fresh(entry: EngineEntry, graph: GraphSpec) -> bool:
    """Whether an engine is still the one that its entry and the graph of today would give."""
    return entry.fingerprint == engine_fingerprint(
        graph,
        target=entry.target,
        backend=entry.backend,
        backend_version=entry.backend_version,
        profile=entry.profile,
        flags=entry.flags,
    )
