"""The recipe `blockout`: its checkpoint and MiniLM's to a whole bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from animatic.bundle import (
    SCHEMA_VERSION,
    Bundle,
    Conditioning,
    FileRef,
    Geometry,
    LatentStats,
    LicenceNote,
    SamplerSpec,
    Size,
    TextSpec,
)
from animatic.store import open_bundle, sha256_file, shipped_bundle_path, write_bundle
from animatic_export.blockout.checkpoint import BlockoutCheckpoint, read_checkpoint
from animatic_export.blockout.from_bundle import plan_again
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan, text_encoder_plan
from animatic_export.blockout.minilm import load_minilm, minilm_folder
from animatic_export.blockout.operations import gflop_per_clip
from animatic_export.graph import GraphPlan, export_graph
from animatic_export.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.recipe import Export, Recipe, Request

VERSION = "0"
MAX_TOKENS = 40
"""Of a prompt: as many as the captions had in training (`train.max_tokens`)."""
DESCRIPTION = (
    "Draws the grey-box stage of a previs shot from a sentence: simple solids, sky, sun and "
    "camera moves. Trained from nothing on procedural clips."
)


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
        for role, error in export_blockout(self.checkpoint, folder, self.command).items():
            say(f"{role}: relative error against torch {error:.1e}")


def export_blockout(checkpoint: Path, folder: Path, command: str) -> dict[str, float]:
    """Write Blockout's bundle into an empty folder; `command` is recorded as what made it.

    Returns each role's largest relative error (L2) against torch.
    """
    trained = read_checkpoint(checkpoint)
    minilm = minilm_folder()
    plans = _plans(trained, minilm)
    graphs = {role: export_graph(plan, folder) for role, plan in plans.items()}
    shutil.copyfile(minilm / "tokenizer.json", folder / "tokenizer.json")
    licences = _write_licences(folder)
    runs = {
        "text_encoder": 1,
        "denoiser": len(trained.sigmas),
        "vae_decoder": trained.denoiser.config.frames,
    }
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        name="blockout",
        family="blockout",
        version=VERSION,
        licence="Apache-2.0",
        description=DESCRIPTION,
        provenance=provenance(
            source=checkpoint.name,
            digest=sha256_file(checkpoint),
            licence="Apache-2.0",
            command=command,
        ),
        geometry=_geometry(trained),
        latents=LatentStats(
            mean=tuple(trained.vae.mean.tolist()), std=tuple(trained.vae.std.tolist())
        ),
        # No keyframes: the student never saw a given frame, and no encoder is shipped.
        conditioning=Conditioning(text=True, keyframes=False, context=False),
        text=TextSpec(
            tokenizer=FileRef(file="tokenizer.json", sha256=sha256_file(folder / "tokenizer.json")),
            max_tokens=MAX_TOKENS,
            pad_to_max=False,
        ),
        sampler=SamplerSpec(kind="euler", sigmas=trained.sigmas),
        graphs=tuple(graph.spec for graph in graphs.values()),
        licences=licences,
        scores=trained.scores | {"gflop_per_clip": round(gflop_per_clip(plans, runs), 3)},
    )
    write_bundle(folder, bundle)
    return {role: graph.error for role, graph in graphs.items()}


def _plans(trained: BlockoutCheckpoint, minilm: Path) -> dict[str, GraphPlan]:
    config, vae = trained.denoiser.config, trained.vae_config
    plans = [
        text_encoder_plan(load_minilm(minilm / "model.safetensors")),
        denoiser_plan(trained.denoiser),
        decoder_plan(
            trained.vae.decoder,
            config.rows,
            config.columns,
            scale=vae.spatial_factor,
            factor=vae.temporal_factor,
        ),
    ]
    return {plan.role: plan for plan in plans}


def _geometry(trained: BlockoutCheckpoint) -> Geometry:
    clip, vae = trained.clip, trained.vae_config
    return Geometry(
        spatial_factor=vae.spatial_factor,
        temporal_factor=vae.temporal_factor,
        latent_channels=vae.latent_channels,
        sizes=(Size(width=clip.width, height=clip.height),),
        frame_counts=(clip.frames,),
        block_latent_frames=trained.denoiser.config.frames,
        native_fps=f"{clip.fps}/1",
        decoder_trim=vae.temporal_factor - 1,
    )


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
