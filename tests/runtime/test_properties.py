"""What must hold for every bundle and every shot, not only for those that we thought of."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from animatic.bundle import (
    READABLE,
    Adapter,
    Axis,
    AxisRange,
    Bundle,
    Conditioning,
    EngineEntry,
    FileRef,
    Geometry,
    GraphSpec,
    LatentStats,
    LicenceNote,
    Provenance,
    SamplerSpec,
    Schedule,
    Size,
    TensorSpec,
    TextSpec,
    Tier,
    decode_bundle,
    encode_bundle,
)
from animatic.errors import BundleSchemaError, InputError, ShotError
from animatic.geometry import format_rate, parse_rate, to_latent, to_pixels
from animatic.record import GenerationRecord
from animatic.shot import Shot
from tests.runtime.fake_model import ZEROS, fake_bundle
from tests.runtime.windowed_model import VAE_ENCODER, some_clip

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

replace = msgspec.structs.replace
text = st.text(max_size=12)  # without lone surrogates, as JSON and UTF-8 demand
sha256 = st.text("0123456789abcdef", min_size=64, max_size=64)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
small = st.integers(1, 64)
rates = st.builds(Fraction, st.integers(1, 1_000_000), st.integers(1, 1_000_000)).filter(
    lambda rate: rate <= 240
)


@st.composite
def geometries(draw: Draw, *, context: bool) -> Geometry:
    spatial, temporal, block = draw(small), draw(small), draw(st.integers(1, 21))
    latents = st.integers(1, block)
    if context:
        latents |= st.integers(1, 4).map(lambda n: n * block)
    sizes = st.builds(
        Size,
        width=small.map(lambda n: n * spatial),
        height=small.map(lambda n: n * spatial),
    )
    return Geometry(
        spatial_factor=spatial,
        temporal_factor=temporal,
        latent_channels=draw(st.integers(1, 4)),
        sizes=tuple(draw(st.lists(sizes, min_size=1, max_size=4))),
        frame_counts=tuple(
            1 + (n - 1) * temporal for n in draw(st.lists(latents, min_size=1, max_size=4))
        ),
        block_latent_frames=block,
        native_fps=format_rate(draw(rates)),
        decoder_trim=temporal - 1,
        context_latent_frames=draw(st.just(0) | st.integers(0, block)) if context else 0,
    )


axes: st.SearchStrategy[Axis] = st.one_of(st.integers(1, 4096), st.text(min_size=1, max_size=6))
tensors = st.builds(
    TensorSpec,
    name=text,
    dtype=st.sampled_from(["float32", "float16", "int64", "uint8"]),
    shape=st.lists(axes, max_size=5).map(tuple),
)
named = st.lists(tensors, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple)
files = st.builds(FileRef, file=text, sha256=sha256)
graphs = st.builds(
    GraphSpec,
    role=st.sampled_from(
        ["text_encoder", "denoiser", "vae_decoder", "vae_encoder", "tiny_decoder"]
    ),
    file=text,
    sha256=sha256,
    precision=text,
    inputs=named,
    outputs=named,
    states=st.just(()),
    external_data=st.lists(files, max_size=2).map(tuple),
)


@st.composite
def engines_of(draw: Draw, drawn: tuple[GraphSpec, ...]) -> EngineEntry:
    graph = draw(st.sampled_from(drawn))
    low, middle, high = sorted(draw(st.tuples(small, small, small)))
    return EngineEntry(
        role=graph.role,
        precision=graph.precision,
        target=draw(text),
        backend=draw(text),
        backend_version=draw(text),
        profile=(AxisRange(axis=draw(text), minimum=low, optimum=middle, maximum=high),),
        flags=draw(st.dictionaries(text, text, max_size=2)),
        file=draw(text),
        sha256=draw(sha256),
        fingerprint=draw(sha256),
        sidecar=draw(files),
    )


@st.composite
def schedules(draw: Draw, steps: int, kind: str) -> Schedule:
    most = 0.999 if kind == "unipc" else 1
    sigmas = st.lists(st.floats(0.001, most), min_size=steps, max_size=steps, unique=True)
    timesteps = st.lists(st.floats(0, 1000), min_size=steps, max_size=steps)
    levels = sorted(draw(sigmas), reverse=True)
    return Schedule(
        sigmas=(1.0, *levels[1:]) if kind == "unipc" else tuple(levels),
        timesteps=draw(st.just(()) | timesteps.map(tuple)),
    )


@st.composite
def samplers(draw: Draw, *, handed_on: bool) -> SamplerSpec:
    kind = draw(st.sampled_from(["euler", "renoise", "unipc"]))
    usual, *others = (
        draw(schedules(steps, kind))
        for steps in draw(st.lists(st.integers(1, 8), min_size=1, max_size=3, unique=True))
    )
    return SamplerSpec(
        kind=kind,
        sigmas=usual.sigmas,
        timestep_scale=draw(positive),
        timesteps=usual.timesteps,
        schedules=tuple(others),
        guidance=draw(st.just(1.0) | st.floats(1, 20)),
        negative_prompt=draw(text),
        context_timestep=draw(st.none() | st.floats(0, 1000)) if handed_on else None,
    )


@st.composite
def tiers_of(
    draw: Draw, geometry: Geometry, sampler: SamplerSpec, drawn: tuple[GraphSpec, ...]
) -> tuple[Tier, ...]:
    roles = {graph.role for graph in drawn} & {"vae_decoder", "tiny_decoder"}
    if not roles:
        return ()
    steps = [0, len(sampler.sigmas), *(len(schedule.sigmas) for schedule in sampler.schedules)]
    tier = st.builds(
        Tier,
        name=st.text(min_size=1, max_size=6),
        size=st.sampled_from(geometry.sizes),
        steps=st.sampled_from(steps),
        decoder=st.sampled_from(sorted(roles)),
    )
    return tuple(draw(st.lists(tier, max_size=2, unique_by=lambda tier: tier.name)))


def with_windows(graph: GraphSpec) -> GraphSpec:
    """A denoiser that can be given latents; other graphs as they are."""
    if graph.role != "denoiser" or any(tensor.name == "positions" for tensor in graph.inputs):
        return graph
    positions = TensorSpec(name="positions", dtype="float32", shape=("batch", "frames"))
    return replace(graph, inputs=(*graph.inputs, positions))


@st.composite
def bundles(draw: Draw) -> Bundle:
    context, keyframes = draw(st.booleans()), draw(st.booleans())
    geometry = draw(geometries(context=context))
    channels = geometry.latent_channels
    kinds = st.lists(graphs, max_size=3, unique_by=lambda graph: (graph.role, graph.precision))
    drawn = tuple(draw(kinds))
    if geometry.context_latent_frames or keyframes:
        drawn = tuple(map(with_windows, drawn))
    if keyframes and all(graph.role != "vae_encoder" for graph in drawn):
        drawn = (*drawn, VAE_ENCODER)
    roles = {graph.role for graph in drawn}
    if "tiny_decoder" in roles and "vae_decoder" not in roles:
        drawn = tuple(graph for graph in drawn if graph.role != "tiny_decoder")
    sampler = draw(samplers(handed_on=context and "denoiser" not in roles))  # which has no state
    tokens = draw(small)
    return Bundle(
        schema_version=draw(st.sampled_from(sorted(READABLE))),
        name=draw(text),
        family=draw(text),
        version=draw(text),
        licence=draw(text),
        description=draw(st.text()),
        provenance=draw(
            st.builds(
                Provenance,
                source=text,
                source_sha256=text,
                licence=text,
                created=text,
                command=text,
                versions=st.dictionaries(text, text, max_size=3),
                adapters=st.lists(
                    st.builds(Adapter, file=text, sha256=sha256, strength=finite), max_size=2
                ).map(tuple),
            )
        ),
        geometry=geometry,
        latents=LatentStats(
            mean=draw(st.tuples(*[finite] * channels)),
            std=draw(st.tuples(*[positive] * channels)),
            decode_noise=draw(st.floats(0, 1)),
        ),
        conditioning=Conditioning(text=draw(st.booleans()), keyframes=keyframes, context=context),
        text=TextSpec(
            tokenizer=draw(files),
            max_tokens=tokens,
            pad_to_max=draw(st.booleans()),
            states_length=draw(st.just(0) | small.map(lambda more: tokens + more)),
            costly=draw(st.booleans()),
        ),
        sampler=sampler,
        graphs=drawn,
        tiers=draw(tiers_of(geometry, sampler, drawn)),
        licences=tuple(
            draw(st.lists(st.builds(LicenceNote, component=text, spdx=text, file=text), max_size=2))
        ),
        engines=tuple(draw(st.lists(engines_of(drawn), max_size=2)) if drawn else ()),
        scores=draw(st.dictionaries(text, finite, max_size=3)),
    )


@given(bundles())
def test_a_bundle_decodes_to_itself(bundle: Bundle) -> None:
    data = encode_bundle(bundle)
    assert decode_bundle(data) == bundle
    assert encode_bundle(decode_bundle(data)) == data


@given(st.binary(max_size=200))
def test_bytes_are_a_bundle_or_a_schema_error(data: bytes) -> None:
    with contextlib.suppress(BundleSchemaError):
        decode_bundle(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
TINY = encode_bundle(fake_bundle())


@given(st.data(), json_values)
def test_a_damaged_value_is_a_schema_error_or_nothing(data: st.DataObject, value: object) -> None:
    """Put anything in place of any value, however deep."""
    place = fields = msgspec.json.decode(TINY)
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        bundle = decode_bundle(msgspec.json.encode(fields))
    except BundleSchemaError:
        return
    assert decode_bundle(encode_bundle(bundle)) == bundle


arrays: st.SearchStrategy[Any] = st.sampled_from(
    [np.array([9, 5]), np.array(9), np.array(["preview", "final"]), np.array([]), np.ones((2, 2))]
)
anything = st.none() | st.integers() | st.floats() | st.fractions() | st.text(max_size=3) | arrays
shots = st.builds(
    Shot,
    prompt=st.text(max_size=30) | st.text(st.characters(exclude_categories=()), max_size=5),
    seed=st.integers(0, 2**63 - 1) | st.integers(),
    size=st.none() | st.tuples(st.integers(), st.integers()),
    seconds=st.none() | st.floats() | st.floats(0.01, 20),
    frames=st.none() | st.integers() | st.integers(1, 41),
    fps=st.none() | st.fractions() | st.sampled_from([Fraction(24), Fraction(24000, 1001)]),
    variant=st.integers(0, 3) | st.integers(),
    steps=st.none() | st.integers(1, 8),
    guidance=st.none() | st.floats(1, 20),
    negative_prompt=st.none() | st.text(max_size=10),
    images=st.dictionaries(st.integers(-30, 30), st.just(some_clip(1)[0]), max_size=3),
    continue_from=st.none() | st.just(some_clip(2)),
    before=st.none() | st.just(some_clip(2)),
    loop=st.booleans(),
)
misused_shots = st.builds(
    Shot,
    prompt=anything,
    seed=anything,
    size=anything,
    seconds=anything,
    frames=anything,
    fps=anything,
    variant=anything,
    tier=anything,
    steps=anything,
    guidance=anything,
    negative_prompt=anything,
    decoder=anything,
    images=anything | st.dictionaries(st.none() | st.integers() | st.text(max_size=2), anything),
    continue_from=anything,
    before=anything,
    loop=anything,
)


@given(bundles(), shots | misused_shots, st.data())
def test_a_shot_plans_exactly_or_raises_a_shot_error(
    bundle: Bundle, shot: Shot, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):  # what the model offers, so that plans are reached too
        sizes = [(size.width, size.height) for size in bundle.geometry.sizes]
        counts = st.sampled_from(bundle.geometry.frame_counts)
        shot = Shot(
            "a shot",
            size=data.draw(st.sampled_from(sizes)),
            frames=data.draw(st.none() | counts),
            fps=data.draw(st.none() | rates),
            tier=data.draw(st.sampled_from([None, *(tier.name for tier in bundle.tiers)])),
        )
    try:
        plan = shot.plan(bundle)
    except (ShotError, InputError):
        return
    geometry = bundle.geometry
    latent = plan.latent_shape
    begins = plan.given.continue_from is None
    pixels = to_pixels(latent, geometry, begins=begins)
    assert (pixels.frames, pixels.height, pixels.width) == (plan.frames, plan.height, plan.width)
    assert to_latent(pixels, geometry, begins=begins) == latent
    assert plan.frames in geometry.frame_counts or bundle.conditioning.context
    trim = geometry.decoder_trim if begins else 0
    assert plan.frames == latent.frames * geometry.temporal_factor - trim
    layout = plan.given.layout(geometry, latent.frames)
    stills = [len(layout.window(block).stills) for block in range(min(layout.blocks, 99))]
    assert max(stills) <= 4
    block = geometry.block_latent_frames
    assert latent.frames <= block or (bundle.conditioning.context and latent.frames % block == 0)
    if shot.seconds is not None:
        off_by = abs(Fraction(shot.seconds) * plan.fps - plan.frames)
        step = geometry.temporal_factor * (block if bundle.conditioning.context else 1)
        assert off_by <= step / 2 + 1e-6 or latent.frames <= block * (2 if plan.given.loop else 1)
    if any(True for _ in plan.given.sources()):
        return  # arrays are in no file, from which to plan again
    record = GenerationRecord.of(plan, bundle, bundle_sha256=ZEROS, animatic_version="0")
    assert GenerationRecord.from_json(record.to_json()).shot().plan(bundle) == plan


@given(rates)
def test_rates(rate: Fraction) -> None:
    assert parse_rate(format_rate(rate)) == rate


@given(st.text(max_size=40))
def test_any_text_is_a_rate_or_a_value_error(written: str) -> None:
    try:
        rate = parse_rate(written)
    except ValueError:
        return
    assert rate > 0
