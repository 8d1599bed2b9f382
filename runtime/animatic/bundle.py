"""The contract between the floors: everything in bundle.json, typed.

A bundle says all that the runtime must know of a model, so that no model's name ever stands in an
`if`. `decode_bundle` and `encode_bundle` are the two doors; both check that the values agree with
each other, and nothing behind them checks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from animatic.errors import BundleSchemaError
from animatic.geometry import parse_rate

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "DECODER_ROLES",
    "READABLE",
    "SCHEMA_VERSION",
    "Adapter",
    "Axis",
    "AxisRange",
    "Bundle",
    "Conditioning",
    "DecoderRole",
    "EngineEntry",
    "FileRef",
    "Geometry",
    "GraphSpec",
    "LatentStats",
    "LicenceNote",
    "Provenance",
    "Role",
    "SamplerSpec",
    "Schedule",
    "Size",
    "StatePair",
    "TensorSpec",
    "TextSpec",
    "Tier",
    "decode_bundle",
    "encode_bundle",
]

SCHEMA_VERSION: Final = 2
READABLE: Final = frozenset({1, SCHEMA_VERSION})
"""Schema 2 has fields that 1 had not, each with a default that says what was meant before."""

Axis = int | str
"""A fixed size, or the name of a dynamic axis such as "tokens"."""

Role = Literal["text_encoder", "denoiser", "vae_decoder", "vae_encoder", "tiny_decoder"]
"""tiny_decoder: a small stand-in for the vae_decoder, of the same raw latents."""

DecoderRole = Literal["vae_decoder", "tiny_decoder"]
DECODER_ROLES: Final[tuple[DecoderRole, ...]] = get_args(DecoderRole)


class _Part(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What every part of a bundle is: frozen, named, and strict about unknown fields.

    What is at its default is not written, so a field that is added changes no bundle's digest.
    """


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

    precision: what it computes in. "fp32", and "fp16-weights", "bf16-weights" and "int8-weights",
        which are stored narrow and compute in float32 too, are for processors; "fp16", "bf16",
        "int8" and "fp8" are typed throughout, for engines.
    architecture: the exporter's own account of the module, in JSON, from which it makes the graph
        in other precisions; the runtime does not read it.
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
    architecture: str = ""


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
    context_latent_frames: clean latent frames of what went before that stand in front of a further
        block, in the denoiser's window; 0: what a block knows of the ones before it, if anything,
        lives in the denoiser's states.
    native_fps: exact frames per second, "8/1".
    decoder_trim: frames dropped from a clip's first decoder call. A decoder gives
        temporal_factor frames for every latent frame (the convention of TAEHV), so this is
        temporal_factor - 1: what remains of the first is the one frame it stands for. A decoder
        whose latents have a fixed frame axis of 1 is called for each latent frame; one whose
        frame axis is dynamic looks ahead and is called once, with all of a block.
    """

    spatial_factor: int
    temporal_factor: int
    latent_channels: int
    sizes: tuple[Size, ...]
    frame_counts: tuple[int, ...]
    block_latent_frames: int
    native_fps: str
    decoder_trim: int
    context_latent_frames: int = 0

    @property
    def fps(self) -> Fraction:
        """The native rate in frames per second."""
        return parse_rate(self.native_fps)


class LatentStats(_Part, frozen=True, kw_only=True):
    """Per channel: the model's latents are (raw - mean) / std; decoders take raw ones.

    decode_noise: share of fresh noise that is mixed into the model's latents for the vae_decoder,
        0 to 1: (1 - share) * latents + share * noise (LTX-Video's `decode_noise_scale`).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    decode_noise: float = 0.0


class Conditioning(_Part, frozen=True, kw_only=True):
    """What the model listens to: text, given key frames, the blocks before.

    keyframes: latent frames may be given, clean and at timestep 0, anywhere in the denoiser's
        window; the bundle then has a vae_encoder, which makes latents of pictures.
    """

    text: bool
    keyframes: bool
    context: bool


class TextSpec(_Part, frozen=True, kw_only=True):
    """The tokenizer.json and how many tokens the text encoder reads.

    states_length: the encoder's token states are padded with zeros to this many before the
        denoiser gets them; 0: as many as there are tokens.
    costly: the encoder takes so long or so much memory that it is loaded only for prompts whose
        states are not kept on disk, and stays on the processor.
    """

    tokenizer: FileRef
    max_tokens: int
    pad_to_max: bool
    states_length: int = 0
    costly: bool = False


class Schedule(_Part, frozen=True, kw_only=True):
    """Noise levels, as `SamplerSpec` has them."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...] = ()


class SamplerSpec(_Part, frozen=True, kw_only=True):
    """The update rule, and the noise levels at which the denoiser is called.

    kind: "euler", "renoise" or "unipc" (`animatic.sampler` has the rules).
    sigmas: descending, in (0, 1], normally from 1.0, WITHOUT the final 0.
    timestep_scale: the denoiser is given timestep_scale * sigma.
    timesteps: what it is given instead, one for each sigma, where a model's reference rounds.
    schedules: for other numbers of steps than the usual one, each of another length.
    guidance: the usual weight of classifier-free guidance; 1 is none, and then the denoiser runs
        once a step and not twice.
    negative_prompt: what guidance leads away from, if the shot does not say.
    context_timestep: after the last step of a block the denoiser runs once more, on the clean
        latents, and is given this, so that its state holds them; None: it does not.
    """

    kind: Literal["euler", "renoise", "unipc"]
    sigmas: tuple[float, ...]
    timestep_scale: float = 1000.0
    timesteps: tuple[float, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    guidance: float = 1.0
    negative_prompt: str = ""
    context_timestep: float | None = None


class Tier(_Part, frozen=True, kw_only=True):
    """A named trade of quality for speed, such as "preview" or "final".

    steps: how many sampler steps; 0 is the usual number. decoder: which one draws the pictures.
    """

    name: str
    size: Size
    steps: int = 0
    decoder: DecoderRole = "vae_decoder"


class Adapter(_Part, frozen=True, kw_only=True):
    """A LoRA that was merged into the denoiser: its file's name and SHA-256, and its strength."""

    file: str
    sha256: str
    strength: float


class Provenance(_Part, frozen=True, kw_only=True):
    """What made the bundle; `created` is ISO 8601 in UTC."""

    source: str
    source_sha256: str
    licence: str
    created: str
    command: str
    versions: dict[str, str]
    adapters: tuple[Adapter, ...] = ()


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
    tiers: what `Shot.tier` may name; none for a model that has one way only.
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
    tiers: tuple[Tier, ...] = ()
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
        if version not in READABLE:
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
