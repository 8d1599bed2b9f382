"""The tiny bundle with more in it: a tiny decoder, a costly text encoder, typed graphs, engines."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from animatic.bundle import EngineEntry, FileRef, GraphSpec, Role
from animatic.engine.wish import ROLES
from animatic.fingerprint import engine_fingerprint
from animatic.store import open_bundle, sha256_file, write_bundle
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

JUNK: Final = b"not a plan at all " * 100
ALL: Final[tuple[Role, ...]] = (*ROLES, "tiny_decoder")

replace = msgspec.structs.replace


def write_costly_bundle(root: Path) -> Path:
    """Write a bundle whose text encoder is costly, and which has a tiny decoder."""
    write_tiny_bundle(root)
    bundle = open_bundle(root).bundle
    decoder = bundle.graph("vae_decoder")
    tiny = replace(decoder, role="tiny_decoder", file="tiny_decoder.onnx")
    shutil.copyfile(root / decoder.file, root / tiny.file)
    text = replace(bundle.text, costly=True)
    write_bundle(root, replace(bundle, text=text, graphs=(*bundle.graphs, tiny)))
    return root


def add_graphs(root: Path, precision: str, roles: Iterable[Role] = ROLES) -> None:
    """Put the reference graphs in once more, by another precision's name."""
    bundle = open_bundle(root).bundle
    new: list[GraphSpec] = []
    for role in roles:
        graph = bundle.graph(role)
        file = f"{role}.{precision}.onnx"
        shutil.copyfile(root / graph.file, root / file)
        new.append(replace(graph, precision=precision, file=file))
    write_bundle(root, replace(bundle, graphs=(*bundle.graphs, *new)))


def add_engines(
    root: Path,
    *,
    target: str = "rtx-40",
    precision: str = "fp16",
    backend: str = "tensorrt_rtx",
    version: str = "1.7.1.116",
    roles: Iterable[Role] = ROLES,
) -> None:
    """Put engines of some bytes that are no plan into the bundle, with everything else right."""
    bundle = open_bundle(root).bundle
    entries: list[EngineEntry] = []
    for role in roles:
        stem = f"engines/{target}/{role}.{precision}.{backend}"
        plan, sidecar = root / f"{stem}.plan", root / f"{stem}.json"
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_bytes(JUNK)
        sidecar.write_text("{}")
        graph = bundle.graph(role, precision)
        fingerprint = engine_fingerprint(
            graph,
            target=target,
            backend=backend,
            backend_version=version,
            profile=(),
            flags={},
        )
        entry = EngineEntry(
            role=role,
            precision=precision,
            target=target,
            backend=backend,
            backend_version=version,
            profile=(),
            flags={},
            file=f"{stem}.plan",
            sha256=sha256_file(plan),
            fingerprint=fingerprint,
            sidecar=FileRef(file=f"{stem}.json", sha256=sha256_file(sidecar)),
        )
        entries.append(entry)
    write_bundle(root, replace(bundle, engines=(*bundle.engines, *entries)))
