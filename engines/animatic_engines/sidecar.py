"""What is kept beside a plan for people and tools: everything that the plan itself will not say."""

from __future__ import annotations

import msgspec

from animatic.bundle import AxisRange, Role, TensorSpec
from animatic_engines.errors import BuildError
from animatic_engines.layers import LayerSummary

__all__ = ["Sidecar", "decode_sidecar", "encode_sidecar"]


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON beside a plan.

    precision: of the graph; target, backend, profile, flags: as in the engine's entry.
    inputs, outputs: names, data types and axes; the axes that have names vary as profile says.
    plan_bytes: size of the plan. seconds: of parsing and building, by the clock.
    peak_rss: the build's largest resident set in bytes; None where the system did not tell.
    created: ISO 8601 in UTC.
    layers: what does the work, counted; the file .layers.json has every layer.
    ran_on: the device on which the engine was run once after the build; "" if it was not.
    warnings: sentences; what the user should know of this engine.
    """

    role: Role
    precision: str
    target: str
    backend: str
    backend_version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: tuple[AxisRange, ...]
    flags: dict[str, str]
    plan_bytes: int
    seconds: float
    peak_rss: int | None
    created: str
    layers: LayerSummary
    ran_on: str
    warnings: tuple[str, ...]


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """The bytes of the file."""
    return msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n"


def decode_sidecar(data: bytes) -> Sidecar:
    """Read the bytes of the file; BuildError if they are something else."""
    try:
        return msgspec.json.decode(data, type=Sidecar)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BuildError(
            f"An engine's sidecar is not what this version of animatic writes ({error}); build "
            "the engine again: animatic build --force."
        ) from error
