"""The contract between the floors: everything in bundle.json, typed.

A bundle says all that the runtime must know of a model, so that no model's name ever stands in an
`if`. `decode_bundle` and `encode_bundle` are the two doors; both check that the values agree with
each other, and nothing behind them checks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from animatic.errors import BundleSchemaError
from animatic.geometry import parse_rate

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "SCHEMA_VERSION",
    "Axis",
    "AxisRange",
    "Bundle",
    "Conditioning",
    "EngineEntry",
    "FileRef",
    "Geometry",
    "GraphSpec",
    "LatentStats",
    "LicenceNote",
    "Provenance",
    "Role",
    "SamplerSpec",
    "Size",
    "StatePair",
    "TensorSpec",
    "TextSpec",
    "decode_bundle",
    "encode_bundle",
]

SCHEMA_VERSION: Final = 1

Axis = int | str
"""A fixed size, or the name of a dynamic axis such as "tokens"."""

Role = Literal["text_encoder", "denoiser", "vae_decoder", "vae_encoder"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every part of a bundle is: frozen, named, and strict about unknown fields."""


class FileRef(_Part, frozen=True, kw_only=True):
    """A file of the bundle: its path relative to bundle.json, with "/", and its SHA-256 in hex."""

    file: str
    sha256: str


class TensorSpec(_Part, frozen=True, kw_only=True):
    """One input or output of a graph; dtype is float32, float16, int64 or uint8."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]


class StatePair(_Part, frozen=True, kw_only=True):
    """An output that is fed back as an input on the next run.

    After a reset the input is zeros of its declared shape; a dynamic axis takes the size of the
    axis of the same name in the run's other inputs.
    """

    input: str
    output: str


class GraphSpec(_Part, frozen=True, kw_only=True):
    """One ONNX graph: what it is for, where it lies, what goes in and comes out.

    precision: what it computes in. "fp16-weights" and "int8-weights" are stored narrow and compute
        in float32 ("fp32"), for processors; "fp16", "bf16", "int8" and "fp8" are typed throughout,
        for engines.
    made_from: SHA-256 in hex of what a derived graph was made from, so that the step which makes
        it knows whether it must be done again; empty for a graph that stands for itself.
    """

    role: Role
    file: str
    sha256: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StatePair, ...] = ()
    external_data: tuple[FileRef, ...] = ()
    made_from: str = ""


class Size(_Part, frozen=True, kw_only=True):
    """The size of a picture in pixels."""

    width: int
    height: int


class Geometry(_Part, frozen=True, kw_only=True):
    """The clips that a model makes.

    spatial_factor: pixels per latent cell, both axes.
    temporal_factor: frames per latent frame after the first.
    latent_channels: channels of a latent cell.
    sizes: what the model was made for; the first is the default.
    frame_counts: each 1 + k * temporal_factor; the first is the default.
    block_latent_frames: latent frames that are denoised together.
    native_fps: exact frames per second, "8/1".
    decoder_trim: frames dropped from a clip's first decoder call. The decoder gives
        temporal_factor frames for every latent frame (the convention of TAEHV), so this is
        temporal_factor - 1: what remains of the first is the one frame it stands for.
    """

    spatial_factor: int
    temporal_factor: int
    latent_channels: int
    sizes: tuple[Size, ...]
    frame_counts: tuple[int, ...]
    block_latent_frames: int
    native_fps: str
    decoder_trim: int

    @property
    def fps(self) -> Fraction:
        """The native rate in frames per second."""
        return parse_rate(self.native_fps)


class LatentStats(_Part, frozen=True, kw_only=True):
    """Per channel: the model's latents are (raw - mean) / std; the decoder takes raw ones."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Conditioning(_Part, frozen=True, kw_only=True):
    """What the model listens to: text, given key frames, the blocks before."""

    text: bool
    keyframes: bool
    context: bool


class TextSpec(_Part, frozen=True, kw_only=True):
    """The tokenizer.json and how many tokens the text encoder reads."""

    tokenizer: FileRef
    max_tokens: int
    pad_to_max: bool


class SamplerSpec(_Part, frozen=True, kw_only=True):
    """The update rule, and the noise levels at which the denoiser is called.

    sigmas: descending, in (0, 1], normally from 1.0, WITHOUT the final 0.
    timestep_scale: the denoiser is given timestep_scale * sigma.
    """

    kind: Literal["euler", "renoise"]
    sigmas: tuple[float, ...]
    timestep_scale: float = 1000.0


class Provenance(_Part, frozen=True, kw_only=True):
    """What made the bundle; `created` is ISO 8601 in UTC."""

    source: str
    source_sha256: str
    licence: str
    created: str
    command: str
    versions: dict[str, str]


class LicenceNote(_Part, frozen=True, kw_only=True):
    """A component, its SPDX licence identifier and the licence text within the bundle."""

    component: str
    spdx: str
    file: str


class AxisRange(_Part, frozen=True, kw_only=True):
    """The sizes of a dynamic axis that an engine takes, and the one it is tuned for."""

    axis: str
    minimum: int
    optimum: int
    maximum: int


class EngineEntry(_Part, frozen=True, kw_only=True):
    """An engine that was compiled for one target from one of the graphs.

    role, precision: of the graph it was compiled from.
    target: a name from targets.toml.
    backend, backend_version: "tensorrt" or "tensorrt_rtx", and exactly which.
    profile: the range of every dynamic axis, sorted by name.
    flags: the builder's settings that change the engine.
    fingerprint: of all that went into the build (`animatic.fingerprint`).
    sidecar: JSON for people and tools beside the plan: names, dtypes, layers, sizes, times.
    """

    role: Role
    precision: str
    target: str
    backend: str
    backend_version: str
    profile: tuple[AxisRange, ...]
    flags: dict[str, str]
    file: str
    sha256: str
    fingerprint: str
    sidecar: FileRef


class Bundle(_Part, frozen=True, kw_only=True):
    """All of bundle.json.

    graphs: a role's first is the reference, which runs on any processor; further ones compute the
        same in another precision.
    """

    schema_version: int
    name: str
    family: str
    version: str
    licence: str
    description: str
    provenance: Provenance
    geometry: Geometry
    latents: LatentStats
    conditioning: Conditioning
    text: TextSpec
    sampler: SamplerSpec
    graphs: tuple[GraphSpec, ...]
    licences: tuple[LicenceNote, ...] = ()
    engines: tuple[EngineEntry, ...] = ()
    scores: dict[str, float] = {}  # msgspec copies an empty default

    def graph(self, role: Role, precision: str | None = None) -> GraphSpec:
        """Return the graph that plays a role: in a precision, or the reference (None).

        BundleSchemaError if there is none.
        """
        for graph in self.graphs:
            if graph.role == role and precision in {None, graph.precision}:
                return graph
        kind = role if precision is None else f"{precision} {role}"
        raise BundleSchemaError(
            f"The bundle {self.name} has no {kind} graph; export the bundle again with one."
        )


class _Schema(msgspec.Struct):
    """Only the version, so that another schema is named as such and not as a missing field."""

    schema_version: int


def decode_bundle(data: bytes) -> Bundle:
    """Read the bytes of a bundle.json; BundleSchemaError if they do not describe a bundle."""
    try:
        version = msgspec.json.decode(data, type=_Schema).schema_version
        if version != SCHEMA_VERSION:
            raise BundleSchemaError(
                f"bundle.json has schema {version} and this version of animatic reads schema "
                f"{SCHEMA_VERSION}; update animatic, or export the bundle again."
            )
        bundle = msgspec.json.decode(data, type=Bundle)
    # msgspec raises UnicodeDecodeError (a ValueError) for bytes that are not UTF-8 and
    # RecursionError for nesting without end.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleSchemaError(
            f"bundle.json is malformed ({error}); reinstall animatic or export the bundle again."
        ) from error
    _check(bundle)
    return bundle


def encode_bundle(bundle: Bundle) -> bytes:
    """Write the bytes of bundle.json, the same for equal bundles; BundleSchemaError if invalid."""
    _check(bundle)
    try:
        data = msgspec.json.encode(bundle, order="deterministic")
        msgspec.json.decode(data, type=Bundle)  # the annotations are only enforced on decoding
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise BundleSchemaError(
            f"The bundle {bundle.name!r} cannot be written as JSON ({error}); correct that value."
        ) from error
    return msgspec.json.format(data, indent=2) + b"\n"


def _check(bundle: Bundle) -> None:
    from animatic.consistency import contradictions  # it names these structs: imported late

    for problem in contradictions(bundle):
        raise BundleSchemaError(
            f"The bundle {bundle.name!r} contradicts itself: {problem}; export the bundle again."
        )
