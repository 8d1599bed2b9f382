"""The recipe `blockout`: its checkpoint and MiniLM's to a whole bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from animatic.bundle import SCHEMA_VERSION, Bundle, FileRef, LicenceNote, TextSpec
from animatic.store import open_bundle, sha256_file, shipped_bundle_path, write_bundle
from animatic_export.blockout.checkpoint import read_checkpoint
from animatic_export.blockout.from_bundle import plan_again
from animatic_export.blockout.minilm import load_minilm, minilm_folder
from animatic_export.graph import export_graph
from animatic_export.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan
    from animatic_export.recipe import Export, Recipe, Request


class BlockoutRecipe:
    """A Blockout of one's own training, or the one that comes with animatic."""

    name = "blockout"
    options: frozenset[str] = frozenset()

    def prepare(self, request: Request) -> Export:
        """Read nothing yet: the checkpoint is small, and is refused when it is read."""
        return BlockoutExport(
            None if request.checkpoint is None else Path(request.checkpoint), request.command
        )

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        return plan_again(opened, role)


RECIPES: Final[Mapping[str, Recipe]] = {"blockout": BlockoutRecipe()}


@dataclass(frozen=True)
class BlockoutExport:
    """One checkpoint, or the built-in model (None), on its way to a bundle."""

    checkpoint: Path | None
    command: str
    notices: tuple[str, ...] = ()

    def is_current(self, bundle: Bundle) -> bool:
        """Whether the bundle was exported from this checkpoint, or is the built-in one (None)."""
        if self.checkpoint is None:
            shipped = open_bundle(verify=False).bundle
            return bundle.graphs[: len(shipped.graphs)] == shipped.graphs
        if not self.checkpoint.is_file():
            return False  # the export says so in its own words
        return bundle.provenance.source_sha256 == sha256_file(self.checkpoint)

    def write(self, folder: Path, say: Callable[[str], None]) -> None:
        """Fill an empty folder with the bundle."""
        if self.checkpoint is None:
            shutil.copytree(shipped_bundle_path(), folder, dirs_exist_ok=True)
            return
        export_blockout(self.checkpoint, folder, self.command, say)


def export_blockout(
    checkpoint: Path, folder: Path, command: str, say: Callable[[str], None]
) -> None:
    """Write Blockout's bundle into an empty folder; `command` is recorded as what made it.

    Says of each graph that it is begun, as one takes half a minute, and how far it is from torch.
    """
    release = read_checkpoint(checkpoint)
    minilm = minilm_folder()
    plans = release.plans(load_minilm(minilm / "model.safetensors"))
    about = release.about(plans)
    graphs = []
    for plan in plans:
        say(f"{plan.role}: exporting")
        graph = export_graph(plan, folder)
        say(f"{plan.role}: relative error against torch {graph.error:.1e}")
        graphs.append(graph.spec)
    shutil.copyfile(minilm / "tokenizer.json", folder / "tokenizer.json")
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        name="blockout",
        family="blockout",
        version=about.version,
        licence="Apache-2.0",
        description=about.text,
        provenance=provenance(
            source=checkpoint.name,
            digest=sha256_file(checkpoint),
            licence="Apache-2.0",
            command=command,
        ),
        geometry=about.geometry,
        latents=about.latents,
        conditioning=about.conditioning,
        text=TextSpec(
            tokenizer=FileRef(file="tokenizer.json", sha256=sha256_file(folder / "tokenizer.json")),
            max_tokens=about.prompt_tokens,
            pad_to_max=False,
        ),
        sampler=about.sampler,
        graphs=tuple(graphs),
        licences=_write_licences(folder),
        tiers=about.tiers,
        scores=about.scores,
    )
    write_bundle(folder, bundle)


def _write_licences(folder: Path) -> tuple[LicenceNote, ...]:
    """Copy the licence texts into the bundle and say what each covers."""
    source = resources.files("animatic_export") / "licences"
    target = folder / "licences"
    target.mkdir()
    for name in ("Apache-2.0.txt", "all-MiniLM-L6-v2.txt"):
        (target / name).write_bytes((source / name).read_bytes())
    return (
        LicenceNote(component="Blockout", spdx="Apache-2.0", file="licences/Apache-2.0.txt"),
        LicenceNote(
            component="all-MiniLM-L6-v2",
            spdx="Apache-2.0",
            file="licences/all-MiniLM-L6-v2.txt",
        ),
    )
