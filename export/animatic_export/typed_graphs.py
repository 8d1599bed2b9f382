"""Blockout's graphs in half precision, made from the weights of a bundle that is already there."""

from __future__ import annotations

import hashlib
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from animatic.lock import locked
from animatic.store import OpenBundle, add_graphs, open_bundle, sha256_file, verify_files
from animatic_export.blockout.from_bundle import read_decoder, read_denoiser, read_text_encoder
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan, text_encoder_plan
from animatic_export.graph import ExportedGraph, GraphPlan, export_graph
from animatic_export.typed import typed_plan

if TYPE_CHECKING:
    from animatic.bundle import GraphSpec, Role

_log = logging.getLogger("animatic.export")

ROLES: Final[tuple[Role, ...]] = ("text_encoder", "denoiser", "vae_decoder")
STAGING: Final = ".typed."
METHOD: Final = "1"
"""Raised when the same weights give other graphs, so that old ones are made again."""


def add_typed_graphs(folder: Path, precision: str) -> dict[Role, float]:
    """Add the graphs in "fp16" or "bf16" to a bundle, where they are not there and fresh.

    Returns the roles that were exported, with the largest relative error (L2) of each against
    float32. Until all are made the bundle stays as it was.
    """
    with locked(folder, lambda: _log.warning("waiting for another writer of %s", folder)):
        return _add(folder, precision)


def _add(folder: Path, precision: str) -> dict[Role, float]:
    opened = open_bundle(folder, verify=False)
    verify_files(opened, {opened.bundle.graph(role).file for role in ROLES})
    for left in folder.glob(f"{STAGING}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    exported: dict[Role, ExportedGraph] = {}
    # Beside the graphs, so that moving them in is a renaming.
    with TemporaryDirectory(dir=folder, prefix=STAGING) as name:
        staged = Path(name)
        for role in ROLES:
            origin = _origin(opened.bundle.graph(role), precision)
            if not any(
                (graph.role, graph.precision, graph.made_from) == (role, precision, origin)
                and _is_whole(opened, graph)
                for graph in opened.bundle.graphs
            ):
                plan = typed_plan(_plan(opened, role), precision, origin)
                exported[role] = export_graph(plan, staged)
        if exported:
            add_graphs(folder, [graph.spec for graph in exported.values()], staged)
    return {role: graph.error for role, graph in exported.items()}


def _is_whole(opened: OpenBundle, graph: GraphSpec) -> bool:
    path = opened.path(graph.file)
    return path.is_file() and sha256_file(path) == graph.sha256


def _origin(reference: GraphSpec, precision: str) -> str:
    """Hash what a typed graph is made from: the reference's weights and the exporters."""
    exporters = [version(name) for name in ("torch", "onnx", "onnxscript")]
    parts = [METHOD, reference.sha256, precision, *exporters]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _plan(opened: OpenBundle, role: Role) -> GraphPlan:
    if role == "text_encoder":
        return text_encoder_plan(read_text_encoder(opened))
    denoiser = read_denoiser(opened)
    if role == "denoiser":
        return denoiser_plan(denoiser)
    geometry, config = opened.bundle.geometry, denoiser.config
    return decoder_plan(
        read_decoder(opened),
        config.rows,
        config.columns,
        scale=geometry.spatial_factor,
        factor=geometry.temporal_factor,
    )
