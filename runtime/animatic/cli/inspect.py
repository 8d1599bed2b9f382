"""``animatic inspect``: what a bundle holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import AxisRange, Bundle, EngineEntry, GraphSpec, Schedule, TensorSpec
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
    """Sizes, lengths, tiers and decoders."""
    from animatic.shot import usual_decoder

    geometry = bundle.geometry
    sizes = ", ".join(f"{size.width}x{size.height}" for size in geometry.sizes)
    counts = ", ".join(map(str, geometry.frame_counts))
    block = geometry.block_latent_frames
    further = f", and any number of blocks of {block * geometry.temporal_factor} more"
    yield "sizes", f"{sizes} pixels"
    yield (
        "frames",
        (
            f"{counts} at {geometry.native_fps} per second"
            f"{further if bundle.conditioning.context else ''}"
        ),
    )
    for tier in bundle.tiers:
        steps = f"{tier.steps or len(bundle.sampler.sigmas)} steps"
        yield "tier", f"{tier.name}: {tier.size.width}x{tier.size.height}, {steps}, {tier.decoder}"
    yield (
        "latents",
        (
            f"{geometry.latent_channels} channels, {geometry.spatial_factor}x"
            f"{geometry.spatial_factor} pixels and {geometry.temporal_factor} frames each"
        ),
    )
    usual = usual_decoder(bundle)
    for graph in bundle.graphs:
        if graph == next((g for g in bundle.graphs if g.role == graph.role), None) and (
            graph.role in {"vae_decoder", "tiny_decoder"}
        ):
            way = "one latent frame at a time" if _streams(graph) else "all of a clip at once"
            yield "decoder", f"{graph.role}, {way}{', the usual one' if graph.role == usual else ''}"


def _streams(decoder: GraphSpec) -> bool:
    latents = next((tensor for tensor in decoder.inputs if tensor.name == "latents"), None)
    return latents is not None and latents.shape[2:3] == (1,)


def _listening(bundle: Bundle) -> Lines:
    """What it is given beside noise."""
    text, sampler = bundle.text, bundle.sampler
    understood = {
        "text": bundle.conditioning.text,
        "key frames": bundle.conditioning.keyframes,
        "the blocks before": bundle.conditioning.context,
    }
    yield "listens to", ", ".join(name for name, does in understood.items() if does) or "nothing"
    padded = f", states padded to {text.states_length}" if text.states_length else ""
    costly = "; costly: on the processor, and its states are kept on disk" if text.costly else ""
    yield "text", f"up to {text.max_tokens} tokens{padded}{costly}"
    if bundle.conditioning.context:
        block = f"blocks of {bundle.geometry.block_latent_frames} latent frames"
        run = "" if sampler.context_timestep is None else (
            f", each run once more at timestep {sampler.context_timestep:g}"
        )
        yield "context", f"{block}{run}"


def _sampling(bundle: Bundle) -> Lines:
    sampler = bundle.sampler
    yield "sampler", f"{sampler.kind}, {_levels(sampler.sigmas, sampler.timesteps)}"
    for schedule in sampler.schedules:
        yield "", f"  or {_levels(schedule.sigmas, schedule.timesteps)}"
    if sampler.guidance == 1:
        yield "guidance", "none: the denoiser runs once a step"
    else:
        away = f", away from {sampler.negative_prompt!r}" if sampler.negative_prompt else ""
        yield "guidance", f"{sampler.guidance:g}{away}: the denoiser runs twice a step"


def _levels(sigmas: tuple[float, ...], timesteps: tuple[float, ...]) -> str:
    said = f"{len(sigmas)} steps, sigmas {_numbers(sigmas)}"
    return f"{said}, timesteps {_numbers(timesteps)}" if timesteps else said


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _graph(opened: OpenBundle, graph: GraphSpec) -> Lines:
    files = (graph.file, *(data.file for data in graph.external_data))
    size = _size([opened.path(file) for file in files])
    yield "graph", f"{graph.role}: {graph.file}, {graph.precision}, {size}"
    carried = {pair.input for pair in graph.states} | {pair.output for pair in graph.states}
    for word, tensors in (("in", graph.inputs), ("out", graph.outputs)):
        for tensor in tensors:
            if tensor.name not in carried:
                yield "", f"  {word:<3} {_tensor(tensor)}"
    if graph.states:
        usual = opened.bundle.geometry.sizes[0]
        from animatic.engine.states import state_bytes

        kept = state_bytes(graph, _usual_ranges(opened.bundle))
        memory = "" if kept is None else f", {_mib(kept)} at {usual.width}x{usual.height}"
        yield "", f"  and {len(graph.states)} states carried from call to call{memory}"
