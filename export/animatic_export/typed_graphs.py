"""A bundle's graphs in half precision, made from the weights of its own reference graphs."""

from __future__ import annotations

import gc
import hashlib
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from animatic.lock import locked
from animatic.store import OpenBundle, add_graphs, open_bundle, sha256_file, verify_files
from animatic_export.graph import ExportedGraph, export_graph
from animatic_export.recipe import find_recipe
from animatic_export.typed import typed_plan

if TYPE_CHECKING:
    from animatic.bundle import Bundle, GraphSpec, Role

_log = logging.getLogger("animatic.export")

STAGING: Final = ".typed."
METHOD: Final = "1"
"""Raised when the same weights give other graphs, so that old ones are made again."""


def add_typed_graphs(folder: Path, precision: str) -> dict[Role, float]:
    """Add the graphs in "fp16" or "bf16" to a bundle, where they are not there and fresh.

    Returns the roles that were exported, with the largest relative error (L2) of each against
    float32. Until all are made the bundle stays as it was. A costly text encoder, which stays on
    the processor, is left out of "fp16": encoders of that kind overflow in it.
    """
    with locked(folder, lambda: _log.warning("waiting for another writer of %s", folder)):
        return _add(folder, precision)


def _add(folder: Path, precision: str) -> dict[Role, float]:
    opened = open_bundle(folder, verify=False)
    roles = _roles(opened.bundle, precision)
    references = [opened.bundle.graph(role) for role in roles]
    data = {each.file for graph in references for each in graph.external_data}
    verify_files(opened, data | {graph.file for graph in references})
    recipe = find_recipe(opened.bundle.family)
    for left in folder.glob(f"{STAGING}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    exported: dict[Role, ExportedGraph] = {}
    # Beside the graphs, so that moving them in is a renaming.
    with TemporaryDirectory(dir=folder, prefix=STAGING) as name:
        staged = Path(name)
        for role in roles:
            origin = _origin(opened.bundle.graph(role), precision)
            if not any(
                (graph.role, graph.precision, graph.made_from) == (role, precision, origin)
                and _is_whole(opened, graph)
                for graph in opened.bundle.graphs
            ):
                plan = typed_plan(recipe.plan(opened, role), precision, origin)
                exported[role] = export_graph(plan, staged)
                del plan
                gc.collect()  # before the next is loaded; see `parts.export_parts`
        if exported:
            add_graphs(folder, [graph.spec for graph in exported.values()], staged)
    return {role: graph.error for role, graph in exported.items()}


def _roles(bundle: Bundle, precision: str) -> list[Role]:
    """The roles that a bundle has, each once, less those that are not made in this precision."""
    roles = dict.fromkeys(graph.role for graph in bundle.graphs)
    skipped = {"text_encoder"} if bundle.text.costly and precision == "fp16" else set()
    return [role for role in roles if role not in skipped]


def _is_whole(opened: OpenBundle, graph: GraphSpec) -> bool:
    files = [(graph.file, graph.sha256), *((d.file, d.sha256) for d in graph.external_data)]
    return all(
        opened.path(file).is_file() and sha256_file(opened.path(file)) == digest
        for file, digest in files
    )


def _origin(reference: GraphSpec, precision: str) -> str:
    """Hash what a typed graph is made from: the reference's weights and the exporters."""
    exporters = [version(name) for name in ("torch", "onnx", "onnxscript")]
    data = [each.sha256 for each in reference.external_data]
    parts = [METHOD, reference.sha256, *data, precision, *exporters]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
