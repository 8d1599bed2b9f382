"""What the building process and its parent say to each other: one JSON object a line.

The parent writes one job and keeps the pipe open for as long as it lives. The child answers with
any number of `Step`, then with one of the other replies, and ends.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from animatic.bundle import AxisRange, EngineEntry, GraphSpec, TensorSpec

# The runtime needs the types of these, not only mypy: msgspec reads the annotations below.
from animatic_engines.layers import LayerSummary

__all__ = [
    "LAYERS",
    "LOG",
    "PLAN",
    "CompileJob",
    "Compiled",
    "Failed",
    "FailureKind",
    "Job",
    "ProbeJob",
    "Ran",
    "Reply",
    "SmokeJob",
    "Step",
    "Version",
]

# Files that a CompileJob leaves in its folder.
PLAN: Final = "plan"
LOG: Final = "log"
LAYERS: Final = "layers.json"

FailureKind = Literal["missing", "graph", "compiler", "disk", "memory", "device"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Frozen, named, strict, and told apart by its name."""


class ProbeJob(_Message, frozen=True, kw_only=True):
    """Import a backend and say its version."""

    backend: str


class CompileJob(_Message, frozen=True, kw_only=True):
    """Compile one graph.

    graph: path of the ONNX file; spec: what bundle.json says of it.
    compute_capability: (8, 9) for SM89.
    profile: the range of every dynamic axis of the inputs.
    workspace: scratch memory in bytes that one layer may use on the device.
    folder: where PLAN, LOG and LAYERS are written; it exists.
    timing_cache: a file that is read if it is there and written afterwards; "" for none.
    """

    backend: str
    graph: str
    spec: GraphSpec
    compute_capability: tuple[int, int]
    profile: tuple[AxisRange, ...]
    workspace: int
    folder: str
    timing_cache: str = ""


class SmokeJob(_Message, frozen=True, kw_only=True):
    """Run an engine once on this machine's device, on zeros."""

    plan: str
    spec: GraphSpec
    entry: EngineEntry


Job = ProbeJob | CompileJob | SmokeJob


class Step(_Message, frozen=True, kw_only=True):
    """How far a build is: fraction in [0, 1], never falling; phase in the compiler's words."""

    fraction: float
    phase: str


class Version(_Message, frozen=True, kw_only=True):
    """Reply to a ProbeJob: the backend's version, such as "1.7.1.116"."""

    version: str


class Compiled(_Message, frozen=True, kw_only=True):
    """Reply to a CompileJob.

    inputs, outputs: as the compiler sees them; a dynamic axis keeps bundle.json's name for it.
    seconds: of parsing and building, by the clock.
    peak_rss: the process's largest resident set in bytes; None where the system does not tell.
    warnings: sentences for the user.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    seconds: float
    peak_rss: int | None
    layers: LayerSummary
    warnings: tuple[str, ...]


class Ran(_Message, frozen=True, kw_only=True):
    """Reply to a SmokeJob: seconds that the first run took, loading left out."""

    seconds: float


class Failed(_Message, frozen=True, kw_only=True):
    """Reply to any job: what the child can say of why it failed; a clause without a full stop."""

    kind: FailureKind
    reason: str


Reply = Version | Compiled | Ran | Failed
