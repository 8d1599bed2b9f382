"""The machines that engines are built for: targets.toml, typed and checked.

A target is a family of cards of one compute capability, not one card: an engine that was built for
a family runs on all of it.
"""

from __future__ import annotations

import difflib
import functools
import re
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from animatic.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "BackendName",
    "BackendSupport",
    "Target",
    "decode_targets",
    "find_target",
    "load_targets",
    "targets_like",
    "version_numbers",
]

BackendName = Literal["tensorrt_rtx", "tensorrt", "onnxruntime-cuda", "onnxruntime"]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "fp8"]

# The compute capability from which a precision can be computed in (NVIDIA's support matrices).
SINCE: Final[Mapping[str, tuple[int, int]]] = {"bf16": (8, 0), "fp8": (8, 9)}


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, named, and strict about unknown fields."""


class BackendSupport(_Part, frozen=True, kw_only=True):
    """Versions of a backend that serve a target: from `minimum`, and before `below`; "" is any."""

    name: BackendName
    minimum: str = ""
    below: str = ""

    def takes(self, version: str) -> bool:
        """Whether a version such as "10.13.3.9" is within the range."""
        numbers = version_numbers(version)
        if self.minimum and numbers < version_numbers(self.minimum):
            return False
        return not self.below or numbers < version_numbers(self.below)

    @property
    def words(self) -> str:
        """As pip would write it: "tensorrt>=10.3,<12"."""
        limits = [(">=", self.minimum), ("<", self.below)]
        return self.name + ",".join(sign + version for sign, version in limits if version)


class Target(_Part, frozen=True, kw_only=True):
    """A family of machines.

    compute_capability: (8, 9) for SM89; None for a processor.
    memory_gib: the memory of the family's smallest card, in GiB.
    backends: in order of preference; one may come twice, with ranges that do not overlap.
    precisions: what graphs it can compute in; default_precision is one of them.
    devices: regular expressions, of which one fits the whole name of a card: the name that NVML
        gives, or a Jetson's own name in its device tree.
    note: limits, and why the default is what it is.
    """

    name: str
    title: str
    memory_gib: float
    backends: tuple[BackendSupport, ...]
    precisions: tuple[PrecisionName, ...]
    default_precision: PrecisionName
    devices: tuple[str, ...]
    note: str
    compute_capability: tuple[int, int] | None = None

    def supports(self, backend: str, version: str) -> bool:
        """Whether this version of a backend serves the target."""
        return any(entry.name == backend and entry.takes(version) for entry in self.backends)

    def fits(self, device: str) -> bool:
        """Whether a card of this name belongs to the family."""
        return any(re.fullmatch(pattern, device) for pattern in self.devices)


class _File(_Part, frozen=True, kw_only=True):
    """All of targets.toml."""

    targets: tuple[Target, ...]


def version_numbers(version: str) -> tuple[int, ...]:
    """Turn "10.13.3.9" or "1.20.0rc1" into numbers that compare; trailing zeros do not count."""
    leading = re.match(r"\d+(\.\d+)*", version)
    if leading is None:
        raise TargetError(
            f"{version!r} is not a version such as 10.13.3; reinstall the package that says so."
        )
    numbers = [int(part) for part in leading[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@functools.cache
def load_targets() -> Mapping[str, Target]:
    """Read targets.toml: every target by its name, in the file's order; read once."""
    return decode_targets(Path(__file__).with_name("targets.toml").read_bytes())


def find_target(name: str) -> Target:
    """Look a target up; TargetError names the nearest ones."""
    targets = load_targets()
    if name.lower() in targets:
        return targets[name.lower()]
    near = difflib.get_close_matches(name.lower(), targets, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    raise TargetError(f"There is no target {name!r}; {guess}`animatic targets` lists them all.")


def targets_like(capability: tuple[int, int]) -> tuple[str, ...]:
    """The names of the targets that have a compute capability."""
    return tuple(t.name for t in load_targets().values() if t.compute_capability == capability)


def decode_targets(data: bytes) -> Mapping[str, Target]:
    """Read the bytes of a targets.toml; TargetError says what does not agree in it."""
    try:
        targets = msgspec.toml.decode(data, type=_File).targets
    # UnicodeDecodeError (a ValueError) for bytes that are not UTF-8.
    except (msgspec.MsgspecError, ValueError) as error:
        raise TargetError(f"targets.toml is malformed ({error}); reinstall animatic.") from error
    names = [target.name for target in targets]
    if len(set(names)) != len(names):
        raise TargetError("targets.toml has a target twice; reinstall animatic.")
    for target in targets:
        for problem in _contradictions(target):
            raise TargetError(f"targets.toml: {target.name} {problem}; reinstall animatic.")
    return MappingProxyType({target.name: target for target in targets})


def _contradictions(target: Target) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", target.name):
        yield "is no name for a folder: lower case, digits and single hyphens"
    if target.default_precision not in target.precisions:
        yield f"has the default precision {target.default_precision}, which it does not offer"
    if len(set(target.precisions)) != len(target.precisions):
        yield "names a precision twice"
    if target.memory_gib <= 0:
        yield "has no memory"
    if not target.backends:
        yield "has no backend"
    capability = target.compute_capability
    for precision in target.precisions:
        since = SINCE.get(precision)
        if since and (capability is None or capability < since):
            yield f"offers {precision}, which needs compute capability {since[0]}.{since[1]}"
    for pattern in target.devices:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"has the regular expression {pattern!r}, which is none ({error})"
    if capability is None and {entry.name for entry in target.backends} != {"onnxruntime"}:
        yield "has no compute capability and a backend that needs one"
    yield from _in_versions(target.backends)


def _in_versions(backends: tuple[BackendSupport, ...]) -> Iterator[str]:
    for entry in backends:
        for version in filter(None, (entry.minimum, entry.below)):
            if not re.fullmatch(r"\d+(\.\d+)*", version):
                yield f"gives {entry.name} the version {version!r}, which is none"
                return  # what follows compares them
        if entry.minimum and entry.below and not entry.takes(entry.minimum):
            yield f"takes {entry.name} from {entry.minimum}, but only below {entry.below}"
    for one, other in combinations(backends, 2):
        if one.name == other.name and _overlap(one, other):
            yield f"has ranges of {one.name} that overlap"


def _overlap(one: BackendSupport, other: BackendSupport) -> bool:
    """Whether some version is in both ranges: the later beginning is then within the other."""
    first, second = sorted((one, other), key=lambda e: version_numbers(e.minimum or "0"))
    return not first.below or version_numbers(second.minimum or "0") < version_numbers(first.below)
