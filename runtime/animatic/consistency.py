"""Whether the values of a bundle agree with each other; the types alone cannot say."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from animatic.bundle import DECODER_ROLES, READABLE, SCHEMA_VERSION, Schedule
from animatic.geometry import parse_rate
from animatic.lengths import in_blocks
from animatic.roles import streams, takes
from animatic.schedules import NEARLY_ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import Bundle, EngineEntry, Geometry, GraphSpec, Role

__all__ = ["contradictions"]

DTYPES: Final = frozenset({"float32", "float16", "int64", "uint8"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COUNT_LIMIT: Final = 1 << 20  # far above any real axis; keeps the arithmetic on shapes small


def contradictions(bundle: Bundle) -> Iterator[str]:
    """Say what is wrong with a bundle, a clause for each fault; nothing if it is sound."""
    if bundle.schema_version not in READABLE:
        yield f"its schema_version is not {SCHEMA_VERSION}"
    yield from _in_geometry(bundle.geometry, context=bundle.conditioning.context)
    yield from _in_numbers(bundle)
    yield from _in_sampler(bundle)
    yield from _in_tiers(bundle)
    for graph in bundle.graphs:
        yield from _in_graph(graph)
        if graph.role in DECODER_ROLES:
            yield from _in_decoder(graph, context=bundle.conditioning.context)
    kinds = [(graph.role, graph.precision) for graph in bundle.graphs]
    if len(set(kinds)) != len(kinds):
        yield "two graphs have the same role and precision"
    yield from _in_window(bundle)
    roles = {graph.role for graph in bundle.graphs}
    if "tiny_decoder" in roles and "vae_decoder" not in roles:
        yield "it has a tiny_decoder and no vae_decoder, for which that stands in"
    for engine in bundle.engines:
        yield from _in_engine(engine, set(kinds))
    references = [(graph.file, graph.sha256) for graph in bundle.graphs]
    references += [(data.file, data.sha256) for g in bundle.graphs for data in g.external_data]
    references += [(engine.file, engine.sha256) for engine in bundle.engines]
    references += [(engine.sidecar.file, engine.sidecar.sha256) for engine in bundle.engines]
    references += [(adapter.file, adapter.sha256) for adapter in bundle.provenance.adapters]
    references.append((bundle.text.tokenizer.file, bundle.text.tokenizer.sha256))
    for file, sha256 in references:
        if not _SHA256.fullmatch(sha256):
            yield f"the sha256 of {file!r} is not 64 hexadecimal digits in lower case"


def _in_geometry(geometry: Geometry, *, context: bool) -> Iterator[str]:
    counts = (
        geometry.spatial_factor,
        geometry.temporal_factor,
        geometry.latent_channels,
        geometry.block_latent_frames,
    )
    if not all(1 <= count <= _COUNT_LIMIT for count in counts):
        yield f"a factor, channel or block count is not between 1 and {_COUNT_LIMIT:,}"
        return  # what follows divides by these
    if not geometry.sizes or not geometry.frame_counts:
        yield "it offers no size or no frame count"
    for size in geometry.sizes:
        if not all(1 <= side <= _COUNT_LIMIT for side in (size.width, size.height)):
            yield f"a size is not between 1 and {_COUNT_LIMIT:,} pixels"
        elif size.width % geometry.spatial_factor or size.height % geometry.spatial_factor:
            yield (
                f"{size.width}x{size.height} is not a multiple of the spatial factor "
                f"{geometry.spatial_factor}"
            )
    for frames in geometry.frame_counts:
        if not 1 <= frames <= _COUNT_LIMIT:
            yield f"a frame count is not between 1 and {_COUNT_LIMIT:,}"
        elif (frames - 1) % geometry.temporal_factor:
            yield f"the frame count {frames} is not 1 + k * {geometry.temporal_factor}"
        else:
            yield from _in_length(frames, geometry, context=context)
    if geometry.decoder_trim != geometry.temporal_factor - 1:
        yield f"decoder_trim is not the temporal factor less one, {geometry.temporal_factor - 1}"
    try:
        parse_rate(geometry.native_fps)
    except ValueError as error:
        yield f"native_fps: {error}"


def _in_length(frames: int, geometry: Geometry, *, context: bool) -> Iterator[str]:
    block, further = in_blocks(geometry, context=context)
    if frames > block and not further:
        yield (
            f"a clip of {frames} frames is longer than one block, {block}, and without context "
            "blocks cannot be joined"
        )
    elif frames > block and (frames - block) % further:
        yield f"a clip of {frames} frames is not {block} and some blocks of {further} more"


def _in_window(bundle: Bundle) -> Iterator[str]:
    """What a denoiser must be that is given clean latents beside those that it makes."""
    context, block = bundle.geometry.context_latent_frames, bundle.geometry.block_latent_frames
    if not 0 <= context <= block:
        yield f"context_latent_frames is not between 0 and those of a block, {block}"
    if context and not bundle.conditioning.context:
        yield "it has context_latent_frames, and the model takes no context"
    if context or bundle.conditioning.keyframes:
        for graph in bundle.graphs:
            if graph.role != "denoiser":
                continue
            if not takes(graph, "positions"):
                yield "latents are given to the denoiser, which has no input positions"
            if graph.states:
                yield "latents are given to the denoiser, which keeps a state of what it sees"
    encoders = [graph for graph in bundle.graphs if graph.role == "vae_encoder"]
    if bundle.conditioning.keyframes and not encoders:
        yield "it takes key frames, and has no vae_encoder to make latents of them"
    if any(encoder.states for encoder in encoders):
        yield "the vae_encoder keeps a state, and the pictures that it is given have no order"


def _in_numbers(bundle: Bundle) -> Iterator[str]:
    channels = bundle.geometry.latent_channels
    mean, std = bundle.latents.mean, bundle.latents.std
    if len(mean) != channels or len(std) != channels:
        yield f"the latent mean and std do not have one value for each of {channels} channels"
    if not all(map(math.isfinite, (*mean, *std))) or not all(value > 0 for value in std):
        yield "a latent mean or std is not finite, or a std is not above 0"
    if not 0 <= bundle.latents.decode_noise <= 1:
        yield "decode_noise is not a share from 0 to 1"
    if not 1 <= bundle.text.max_tokens <= _COUNT_LIMIT:
        yield f"max_tokens is not between 1 and {_COUNT_LIMIT:,}"
    if not 0 <= bundle.text.states_length <= _COUNT_LIMIT:
        yield f"states_length is not between 0 and {_COUNT_LIMIT:,}"
    elif 0 < bundle.text.states_length < bundle.text.max_tokens:
        yield "states_length is below max_tokens, so that a long prompt's states do not fit"
    if not all(math.isfinite(adapter.strength) for adapter in bundle.provenance.adapters):
        yield "the strength of an adapter is not a finite number"
    if not all(map(math.isfinite, bundle.scores.values())):
        yield "a score is not a finite number"


def _in_sampler(bundle: Bundle) -> Iterator[str]:
    sampler = bundle.sampler
    usual = Schedule(sigmas=sampler.sigmas, timesteps=sampler.timesteps)
    for schedule in (usual, *sampler.schedules):
        yield from _in_schedule(schedule, sampler.kind)
    steps = [len(schedule.sigmas) for schedule in (usual, *sampler.schedules)]
    if len(set(steps)) != len(steps):
        yield "two of the sampler's schedules have the same number of steps"
    if not 0 < sampler.timestep_scale < math.inf:
        yield "the timestep scale is not a finite number above 0"
    if not 1 <= sampler.guidance < math.inf:
        yield "the guidance is not a finite number from 1 on"
    denoisers = [graph for graph in bundle.graphs if graph.role == "denoiser"]
    if sampler.guidance != 1 and any(graph.states for graph in denoisers):
        yield "the denoiser keeps a state, which the two runs of guidance would mix up"
    if sampler.context_timestep is not None:
        if not 0 <= sampler.context_timestep < math.inf:
            yield "the context timestep is not a finite number from 0 on"
        if not bundle.conditioning.context:
            yield "it has a context timestep, and the model takes no context"
        if not all(graph.states for graph in denoisers):
            yield "it has a context timestep, and the denoiser keeps no state to hold a block in"


def _in_schedule(schedule: Schedule, kind: str) -> Iterator[str]:
    sigmas, timesteps = schedule.sigmas, schedule.timesteps
    if not sigmas or not all(0 < sigma <= 1 for sigma in sigmas):
        yield "the sampler's sigmas are not all in (0, 1]"
    if any(later >= sooner for sooner, later in pairwise(sigmas)):
        yield "the sampler's sigmas do not descend"
    # It starts from pure noise, and nothing can be extrapolated between two levels of 1.
    if kind == "unipc" and [s for s in sigmas if s >= NEARLY_ONE] != list(sigmas[:1]):
        yield f"of the sigmas of unipc the first, and it alone, must be {NEARLY_ONE:.6f} or more"
    if timesteps and len(timesteps) != len(sigmas):
        yield "the sampler does not have one timestep for each sigma"
    if not all(0 <= timestep < math.inf for timestep in timesteps):
        yield "the sampler's timesteps are not all finite numbers from 0 on"


def _in_tiers(bundle: Bundle) -> Iterator[str]:
    names = [tier.name for tier in bundle.tiers]
    if len(set(names)) != len(names) or not all(names):
        yield "two tiers have the same name, or one has none"
    roles = {graph.role for graph in bundle.graphs}
    steps = {0, len(bundle.sampler.sigmas), *(len(s.sigmas) for s in bundle.sampler.schedules)}
    for tier in bundle.tiers:
        if tier.size not in bundle.geometry.sizes:
            yield (
                f"the tier {tier.name!r} has the size {tier.size.width}x{tier.size.height}, which "
                "is not one of the model's"
            )
        if tier.steps not in steps:
            yield f"the sampler has no schedule of the {tier.steps} steps of the tier {tier.name!r}"
        if tier.decoder not in roles:
            yield f"the tier {tier.name!r} is drawn by a {tier.decoder}, which is not there"


def _in_engine(engine: EngineEntry, kinds: set[tuple[Role, str]]) -> Iterator[str]:
    kind = (engine.role, engine.precision)
    if kind not in kinds:
        yield f"the engine {engine.file!r} is of a {kind[1]} {kind[0]} graph, which is not there"
    if not _SHA256.fullmatch(engine.fingerprint):
        yield f"the fingerprint of {engine.file!r} is not 64 hexadecimal digits in lower case"
    for axis in engine.profile:
        if not 1 <= axis.minimum <= axis.optimum <= axis.maximum:
            yield f"the range of the axis {axis.axis!r} of {engine.file!r} is not in order"


def _in_decoder(decoder: GraphSpec, *, context: bool) -> Iterator[str]:
    for tensor in decoder.inputs:
        if tensor.name == "latents" and not streams(decoder):
            if not isinstance(next(iter(tensor.shape[2:3]), 0), str):
                yield (
                    f"the {decoder.role} takes latents of the shape {list(tensor.shape)}, whose "
                    "third axis is neither 1 nor dynamic"
                )
            elif context:
                yield (
                    f"the {decoder.role} looks ahead, and the blocks of a model with context come "
                    "one by one"
                )


def _in_graph(graph: GraphSpec) -> Iterator[str]:
    for tensors in (graph.inputs, graph.outputs):
        names = [tensor.name for tensor in tensors]
        if len(set(names)) != len(names):
            yield f"the {graph.role} graph names a tensor twice"
        for tensor in tensors:
            if tensor.dtype not in DTYPES:
                yield f"the dtype {tensor.dtype!r} of {tensor.name!r} is unknown"
            for axis in tensor.shape:
                if not (axis if isinstance(axis, str) else 1 <= axis <= 1 << 31):
                    yield f"an axis of {tensor.name!r} is neither a positive size nor a name"
    inputs = {tensor.name: tensor.dtype for tensor in graph.inputs}
    outputs = {tensor.name: tensor.dtype for tensor in graph.outputs}
    for pair in graph.states:
        if pair.input not in inputs or pair.output not in outputs:
            yield f"the state {pair.input!r} is not an input and an output of the {graph.role}"
        elif inputs[pair.input] != outputs[pair.output]:
            yield f"the state {pair.input!r} comes out with another dtype than it goes in"
