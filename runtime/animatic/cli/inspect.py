"""``animatic inspect``: what a bundle holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import GraphSpec, TensorSpec
    from animatic.store import OpenBundle

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


def _lines(opened: OpenBundle, *, verified: bool) -> Iterator[tuple[str, str]]:
    bundle, geometry = opened.bundle, opened.bundle.geometry
    sizes = ", ".join(f"{size.width}x{size.height}" for size in geometry.sizes)
    counts = ", ".join(map(str, geometry.frame_counts))
    understood = {
        "text": bundle.conditioning.text,
        "key frames": bundle.conditioning.keyframes,
        "the blocks before": bundle.conditioning.context,
    }
    sampler = bundle.sampler
    yield "name", f"{bundle.name} {bundle.version} ({bundle.family})"
    yield "about", bundle.description
    yield "licence", bundle.licence
    yield "folder", str(opened.root)
    yield "sha256", opened.digest
    yield "source", f"{bundle.provenance.source} ({bundle.provenance.source_sha256[:12]})"
    yield "made", f"{bundle.provenance.created} by {bundle.provenance.command}"
    yield "sizes", f"{sizes} pixels"
    yield "frames", f"{counts} at {geometry.native_fps} per second"
    yield (
        "latents",
        (
            f"{geometry.latent_channels} channels, {geometry.spatial_factor}x"
            f"{geometry.spatial_factor} pixels and {geometry.temporal_factor} frames each"
        ),
    )
    yield "listens to", ", ".join(name for name, does in understood.items() if does) or "nothing"
    yield "sampler", f"{sampler.kind}, sigmas {', '.join(f'{sigma:g}' for sigma in sampler.sigmas)}"
    for graph in bundle.graphs:
        yield from _graph(graph, opened.path(graph.file))
    for engine in bundle.engines:
        yield (
            "engine",
            f"{engine.role}: {engine.target} {engine.precision}, {engine.backend}: {engine.file}",
        )
    for note in bundle.licences:
        yield "component", f"{note.component}: {note.spdx} ({note.file})"
    for name, score in sorted(bundle.scores.items()):
        yield "score", f"{name} {score:g}"
    if verified:
        yield "verified", "every file is the one that bundle.json names"


def _graph(graph: GraphSpec, path: Path) -> Iterator[tuple[str, str]]:
    try:
        size = f"{path.stat().st_size / 2**20:.1f} MiB" if path.is_file() else "missing"
    except OSError as error:  # a folder that may not be entered, a name that is too long
        size = f"unreadable ({error.strerror})"
    yield "graph", f"{graph.role}: {graph.file}, {graph.precision}, {size}"
    carried = {pair.input for pair in graph.states} | {pair.output for pair in graph.states}
    for word, tensors in (("in", graph.inputs), ("out", graph.outputs)):
        for tensor in tensors:
            if tensor.name not in carried:
                yield "", f"  {word:<3} {_tensor(tensor)}"
    if graph.states:
        yield "", f"  and {len(graph.states)} states carried from call to call"


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
