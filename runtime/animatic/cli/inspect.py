"""``animatic inspect``: what a bundle holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import (
        AxisRange,
        Bundle,
        EngineEntry,
        GraphSpec,
        Size,
        TensorSpec,
    )
    from animatic.store import OpenBundle

    Lines = Iterator[tuple[str, str]]

__all__ = ["command"]


@click.command("inspect", short_help="Show what a bundle holds.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Everything in bundle.json, on one line.")
@click.option("--verify", is_flag=True, help="Also hash every file and compare.")
def command(*, bundle: Path | None, as_json: bool, verify: bool) -> None:
    """Show what the model in the folder BUNDLE is; without it, the built-in Blockout."""
    from animatic.store import open_bundle

    opened = open_bundle(bundle, verify=verify)
    if as_json:
        click.echo(json.dumps(_document(opened, verified=verify), ensure_ascii=False))
        return
    for label, text in _lines(opened, verified=verify):
        click.echo(f"{label:<12} {text}".rstrip())


def _document(opened: OpenBundle, *, verified: bool) -> dict[str, object]:
    import msgspec

    return {
        "path": str(opened.root),
        "sha256": opened.digest,
        "verified": verified,
        "bundle": msgspec.to_builtins(opened.bundle),
    }


def _lines(opened: OpenBundle, *, verified: bool) -> Lines:
    bundle, made = opened.bundle, opened.bundle.provenance
    yield "name", f"{bundle.name} {bundle.version} ({bundle.family})"
    yield "about", bundle.description
    yield "licence", bundle.licence
    yield "folder", str(opened.root)
    yield "sha256", opened.digest
    yield "source", f"{made.source} ({made.source_sha256[:12]})"
    for adapter in made.adapters:
        merged = f"{adapter.file} ({adapter.sha256[:12]}), strength {adapter.strength:g}"
        yield "adapter", f"{merged}, merged into the denoiser"
    yield "made", f"{made.created} by {made.command}"
    yield from _clips(bundle)
    yield from _listening(bundle)
    yield from _sampling(bundle)
    for graph in bundle.graphs:
        yield from _graph(opened, graph)
    for engine in bundle.engines:
        yield "engine", _engine(bundle, engine)
    for note in bundle.licences:
        yield "component", f"{note.component}: {note.spdx} ({note.file})"
    for name, score in sorted(bundle.scores.items()):
        yield "score", f"{name} {score:g}"
    if verified:
        yield "verified", "every file is the one that bundle.json names"


def _clips(bundle: Bundle) -> Lines:
    """What can be asked for: sizes, lengths, tiers, decoders."""
    from animatic.bundle import DECODER_ROLES
    from animatic.roles import streams
    from animatic.shot import usual_decoder

    geometry = bundle.geometry
    counts = ", ".join(map(str, geometry.frame_counts))
    block = geometry.block_latent_frames * geometry.temporal_factor
    more = f", and any number of blocks of {block} more" if bundle.conditioning.context else ""
    yield "sizes", f"{', '.join(map(_pixels, geometry.sizes))} pixels"
    yield "frames", f"{counts}{more}, at {geometry.native_fps} per second"
    for tier in bundle.tiers:
        steps = tier.steps or len(bundle.sampler.sigmas)
        yield "tier", f"{tier.name}: {_pixels(tier.size)}, {steps} steps, {tier.decoder}"
    cell = f"{geometry.spatial_factor}x{geometry.spatial_factor} pixels"
    yield (
        "latents",
        f"{geometry.latent_channels} channels, {cell} and {geometry.temporal_factor} frames each",
    )
    for role in DECODER_ROLES:
        if any(graph.role == role for graph in bundle.graphs):
            way = "latent frame by latent frame" if streams(bundle.graph(role)) else "all at once"
            usual = ", the usual one" if role == usual_decoder(bundle) else ""
            yield "decoder", f"{role}, {way}{usual}"


def _pixels(size: Size) -> str:
    return f"{size.width}x{size.height}"


def _listening(bundle: Bundle) -> Lines:
    """What the denoiser is given beside noise."""
    from animatic.window import MAX_STILLS

    text = bundle.text
    understood = {
        "text": bundle.conditioning.text,
        "key frames": bundle.conditioning.keyframes,
        "the blocks before": bundle.conditioning.context,
    }
    yield "listens to", ", ".join(name for name, does in understood.items() if does) or "nothing"
    padded = f", their states padded to {text.states_length}" if text.states_length else ""
    costly = "; costly: loaded for new prompts only, on the processor" if text.costly else ""
    yield "text", f"up to {text.max_tokens} tokens{padded}{costly}"
    before = bundle.geometry.context_latent_frames
    if bundle.conditioning.context:
        timestep = bundle.sampler.context_timestep
        again = "" if timestep is None else f", each run once more at timestep {timestep:g}"
        again += f", each seen with {before} before or after it" if before else ""
        yield "context", f"blocks of {bundle.geometry.block_latent_frames} latent frames{again}"
    if bundle.conditioning.keyframes:
        clips = "; clips to go on from or lead to" if before else ""
        between = "; two clips to join; loops" if before > 1 else ""
        yield "given", f"pictures for any frames, at most {MAX_STILLS} a block{clips}{between}"


def _sampling(bundle: Bundle) -> Lines:
    sampler = bundle.sampler
    yield "sampler", f"{sampler.kind}, {_levels(sampler.sigmas, sampler.timesteps)}"
    for schedule in sampler.schedules:
        yield "", f"or {_levels(schedule.sigmas, schedule.timesteps)}"
    if sampler.guidance == 1:
        yield "guidance", "none; the denoiser runs once a step"
    else:
        away = f", away from {sampler.negative_prompt!r}" if sampler.negative_prompt else ""
        yield "guidance", f"{sampler.guidance:g}{away}; the denoiser runs twice a step"


def _levels(sigmas: tuple[float, ...], timesteps: tuple[float, ...]) -> str:
    steps = f"{len(sigmas)} steps, sigmas {_numbers(sigmas)}"
    return f"{steps}, timesteps {_numbers(timesteps)}" if timesteps else steps


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _graph(opened: OpenBundle, graph: GraphSpec) -> Lines:
    from animatic.engine.states import state_bytes

    size = _size([opened.path(f) for f in (graph.file, *(d.file for d in graph.external_data))])
    yield "graph", f"{graph.role}: {graph.file}, {graph.precision}, {size}"
    carried = {pair.input for pair in graph.states} | {pair.output for pair in graph.states}
    for word, tensors in (("in", graph.inputs), ("out", graph.outputs)):
        for tensor in tensors:
            if tensor.name not in carried:
                yield "", f"  {word:<3} {_tensor(tensor)}"
    if graph.states:
        kept = state_bytes(graph, _usual_axes(opened.bundle))
        at = _pixels(opened.bundle.geometry.sizes[0])
        memory = "" if kept is None else f", {_mib(kept)} at {at}"
        states = f"{len(graph.states)} state{'s' if len(graph.states) > 1 else ''}"
        yield "", f"  and {states} carried from call to call{memory}"


def _size(files: list[Path]) -> str:
    try:
        if not all(file.is_file() for file in files):
            return "missing"
        return _mib(sum(file.stat().st_size for file in files))
    except OSError as error:  # a folder that may not be entered, a name that is too long
        return f"unreadable ({error.strerror})"


def _usual_axes(bundle: Bundle) -> tuple[AxisRange, ...]:
    """The axes that a state may have, at the size that a clip has if nobody asks for another."""
    from animatic.bundle import AxisRange

    size, factor = bundle.geometry.sizes[0], bundle.geometry.spatial_factor
    counts = {
        "batch": 1,
        "rows": size.height // factor,
        "columns": size.width // factor,
        "height": size.height,
        "width": size.width,
    }
    return tuple(
        AxisRange(axis=axis, minimum=count, optimum=count, maximum=count)
        for axis, count in counts.items()
    )


def _engine(bundle: Bundle, entry: EngineEntry) -> str:
    """An engine on one line, with the memory that its states take on the device, in two buffers."""
    from animatic.engine.states import state_bytes

    kept = state_bytes(bundle.graph(entry.role, entry.precision), entry.profile)
    states = f", {_mib(2 * kept)} for states" if kept else ""
    named = f"{entry.role}: {entry.target} {entry.precision}, {entry.backend}"
    return f"{named}{states}: {entry.file}"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
