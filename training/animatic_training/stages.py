"""The stages of training, in order. Each resumes where it stopped and is skipped when done."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from animatic.engine.cores import usable_cores
from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from animatic_training.atomic import whole_file
from animatic_training.budget import is_done, read_checkpoint
from animatic_training.stopping import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from animatic_training.batches import Batches
    from animatic_training.config import Config
    from animatic_training.pieces import Kind, Shard
    from animatic_training.pixels import PixelShard

log = logging.getLogger("animatic_training")


@dataclass(frozen=True)
class Workplace:
    """Where a training run keeps its files, what it computes on, and what it begins with."""

    config: Config
    run: Path
    device: torch.device
    method: str
    """Of distillation."""
    beginning: Path | None = None
    """The folder of an earlier run whose networks are the beginning of these."""
    part_bytes: int | None = None
    """What must leave the machine is also written in parts of at most so many bytes."""
    stop: Stop = field(default_factory=Stop)
    """Asked after every step and every shard."""

    @property
    def data(self) -> Path:
        """The folder of rendered shards and their latents."""
        return self.run / "data"

    @property
    def workers(self) -> int:
        """Processes that render, or prepare what an accelerator renders."""
        return max(1, usable_cores() - (self.device.type != "cpu"))

    def shards(self, wanted: Sequence[Shard], device: torch.device) -> list[PixelShard]:
        """Open shards that are kept as pixels; StageError if one is not there."""
        from animatic_training.pixels import is_there, open_pixels

        if missing := [shard.number for shard in wanted if not is_there(self.data, shard)]:
            raise StageError(
                f"{self.data} lacks the rendered shards {missing}: run the stage `render` first."
            )
        return [open_pixels(self.data, shard, device) for shard in wanted]

    def pixel_shards(self) -> list[PixelShard]:
        """Open what VAE and probe learn from, on the device that trains."""
        from animatic_training.pieces import piece_shards

        wanted = piece_shards(self.config)[: self.config.data.pixel_shards]
        return self.shards(wanted, self.device)

    def held_out(self) -> tuple[Tensor, Tensor]:
        """Return what scores are read from: uint8 [N, F, H, W, 3] and labels int64 [N, 13].

        Pieces that begin their shots, as they alone show all that their labels say.
        """
        from animatic_training.pieces import held_out_shards

        shards = self.shards(held_out_shards(self.config), torch.device("cpu"))
        pixels = torch.cat([shard.pixels[shard.starts == 0] for shard in shards])
        return pixels, torch.cat([shard.labels[shard.starts == 0] for shard in shards])

    def vae(self) -> VideoVae:
        """Return the trained VAE."""
        state = self.finished("vae.pt", "vae", self.config.vae_training.minutes)
        vae = VideoVae(self.config.vae).to(self.device)
        vae.load_state_dict(state["model"])
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return vae.eval()

    def denoiser(self, state: Mapping[str, Any]) -> WindowDenoiser:
        """Return the averaged weights of a checkpoint."""
        denoiser = WindowDenoiser(self.config.window).to(self.device)
        denoiser.load_state_dict(state["ema"])
        return denoiser.eval().requires_grad_(requires_grad=False)

    def teacher(self) -> WindowDenoiser:
        """Return the trained many-step denoiser."""
        minutes = self.config.train.minutes
        return self.denoiser(self.finished("denoiser.pt", "denoiser", minutes))

    def student(self, method: str) -> WindowDenoiser:
        """Return the student of a method of distillation."""
        from animatic_training.distill import student_file

        minutes = self.config.distill.minutes
        return self.denoiser(self.finished(student_file(method), "distill", minutes))

    def finished(self, file: str, stage: str, minutes: float) -> dict[str, Any]:
        """Read a checkpoint of a stage that has come to its end; StageError if it has not."""
        state = read_checkpoint(self.run / file)
        if state is None:
            raise StageError(f"There is no {self.run / file} yet: run the stage `{stage}` first.")
        if not is_done(state, minutes):
            raise StageError(
                f"{self.run / file} is not finished: run the stage `{stage}` to its end."
            )
        return state

    def has(self, file: str) -> bool:
        """Say whether there is a checkpoint, finished or not."""
        return (self.run / file).exists()

    def is_finished(self, file: str, minutes: float) -> bool:
        """Say whether a stage has come to its end: then nothing need be read for it."""
        state = read_checkpoint(self.run / file)
        return state is not None and is_done(state, minutes)

    def has_score(self, name: str) -> bool:
        """Say whether `scores.json` holds a figure."""
        path = self.run / "scores.json"
        return path.exists() and name in json.loads(path.read_text())

    def weights(self, part: str) -> dict[str, Tensor]:
        """Return what a network ("vae" or "denoiser") begins with, as far as it fits."""
        from animatic_training.beginning import bundle_weights, run_weights

        if self.beginning is not None:
            return run_weights(self.beginning, part)
        return bundle_weights() if (part, self.config.init) == ("vae", "bundle") else {}

    def batches(self, kind: Kind, *, text_dropout: float = 0.0) -> Batches:
        """Read the latents of pieces, or stills, on to the device; StageError if there are none.

        Where no stills were rendered, pieces give theirs.
        """
        from animatic_training.batches import Batches
        from animatic_training.latents import as_stills, load_latents, vae_digest
        from animatic_training.pieces import piece_shards, still_shards
        from animatic_training.text import CaptionEncoder

        digest, alone = vae_digest(self.vae()), self.config.data.still_shards > 0
        render_stills = kind == "still" and alone
        shards = still_shards(self.config) if render_stills else piece_shards(self.config)
        try:
            sets = load_latents(self.config, self.data, shards, digest, self.device)
        except FileNotFoundError as error:
            raise StageError(f"{error} Run the stage `latents` first.") from error
        if kind == "still" and not alone:
            sets = [as_stills(data) for data in sets]
        encoder = CaptionEncoder(self.config.text_max_tokens, self.device)
        return Batches(sets, encoder, text_dropout=text_dropout)


class StageError(Exception):
    """A stage lacks what an earlier one makes; the message names that stage."""


def run_render(place: Workplace) -> None:
    """Render the shards that are kept as pixels."""
    from animatic_training.pieces import held_out_shards, piece_shards
    from animatic_training.pixels import is_there, keep_pixels
    from animatic_training.renders import rendered, workers

    config = place.config
    place.data.mkdir(parents=True, exist_ok=True)
    wanted = [*piece_shards(config)[: config.data.pixel_shards], *held_out_shards(config)]
    missing = [shard for shard in wanted if not is_there(place.data, shard)]
    if not missing:
        return
    with workers(place.workers) as pool:
        ahead = 2 * place.workers
        for shard, chunks in rendered(config, missing, place.device, pool, ahead=ahead):
            keep_pixels(place.data, shard, chunks)
            log.info("shard %d is there", shard.number)
            place.stop.obey()


def run_vae(place: Workplace) -> None:
    """Train the VAE and score it on held-out renders."""
    from animatic_training.score_vae import score_vae
    from animatic_training.train_vae import train_vae

    minutes = place.config.vae_training.minutes
    if place.is_finished("vae.pt", minutes) and place.has_score("vae_psnr"):
        return
    pixels, _ = place.held_out()
    shards = place.pixel_shards()
    beginning = place.weights("vae")
    train_vae(place.config, shards, place.run, place.device, beginning, stop=place.stop)
    merge_scores(place.run, score_vae(place.vae(), pixels[:200]))


def run_latents(place: Workplace) -> None:
    """Render every shard of pieces and stills, and keep their latents."""
    from animatic_training.latents import encode_shard, keep_latents, latents_path, vae_digest
    from animatic_training.pieces import piece_shards, still_shards
    from animatic_training.pixels import is_there, open_pixels
    from animatic_training.renders import from_disk, rendered, workers
    from animatic_training.text import CaptionEncoder

    config, vae = place.config, place.vae()
    digest = vae_digest(vae)
    wanted = [*still_shards(config), *piece_shards(config)]
    missing = [s for s in wanted if not latents_path(place.data, s, digest).exists()]
    if not missing:
        return
    encoder = CaptionEncoder(config.text_max_tokens, torch.device("cpu"))
    drawn = frozenset(shard for shard in missing if is_there(place.data, shard))
    with workers(place.workers) as pool:
        ahead = 2 * place.workers
        for shard, prepared in rendered(
            config, missing, place.device, pool, ahead=ahead, drawn=drawn
        ):
            kept = open_pixels(place.data, shard, place.device) if shard in drawn else None
            chunks = prepared if kept is None else from_disk(prepared, kept)
            tensors = encode_shard(config, vae, shard, chunks, encoder)
            keep_latents(latents_path(place.data, shard, digest), tensors)
            log.info("latents of the %ss of shard %d are there", shard.kind, shard.number)
            place.stop.obey()


def run_stills(place: Workplace) -> None:
    """Train the denoiser on single pictures."""
    from animatic_training.train_denoiser import still_phase, train_denoiser

    config = place.config
    if place.is_finished("stills.pt", config.train.still_minutes) or place.has("denoiser.pt"):
        return
    batches = place.batches("still", text_dropout=config.train.text_dropout)
    phase, beginning = still_phase(config), place.weights("denoiser")
    train_denoiser(config, phase, batches, place.run, place.device, beginning, stop=place.stop)


def run_denoiser(place: Workplace) -> None:
    """Train it on windows of shots: the many-step teacher."""
    from animatic_training.train_denoiser import reader_weights, train_denoiser, window_phase

    config = place.config
    if place.is_finished("denoiser.pt", config.train.minutes):
        return
    begun: dict[str, Tensor] = {}
    if not place.has("denoiser.pt"):
        stills = place.finished("stills.pt", "stills", config.train.still_minutes)
        begun = stills["ema"] | reader_weights(stills["objective"])
    batches = place.batches("piece", text_dropout=config.train.text_dropout)
    phase = window_phase(config)
    train_denoiser(config, phase, batches, place.run, place.device, begun, stop=place.stop)


def run_distill(place: Workplace) -> None:
    """Distil the guided teacher into few steps."""
    from animatic_training.distill import distil, student_file

    if place.is_finished(student_file(place.method), place.config.distill.minutes):
        return
    teacher = place.teacher()
    batches = place.batches("piece")
    distil(place.config, place.method, teacher, batches, place.run, stop=place.stop)


def run_probe(place: Workplace) -> None:
    """Train the probe and score it on held-out renders."""
    from animatic_training.coding import decode_again
    from animatic_training.probe import FRAMES, accuracy, read_clips, save_probe
    from animatic_training.train_probe import train_probe

    if (place.run / "probe.safetensors").exists() and place.has_score("probe_decoded_all"):
        return
    pixels, labels = place.held_out()
    shards = place.pixel_shards()
    vae, config = place.vae(), place.config
    probe = train_probe(config, shards, place.run, vae, place.device, stop=place.stop)
    save_probe(probe, place.run / "probe.safetensors")
    # Through the VAE too: what a perfect denoiser would score.
    shown = pixels[:, :FRAMES]
    for kind, clips in (("renders", shown), ("decoded", decode_again(vae, shown))):
        shares = accuracy(read_clips(probe, clips), labels.numpy())
        merge_scores(place.run, {f"probe_{kind}_{name}": share for name, share in shares.items()})


def run_score(place: Workplace) -> None:
    """Score teacher and students with the probe on unseen prompts."""
    from animatic_training.score import score_run

    weights = place.run / "probe.safetensors"
    if not weights.exists():
        raise StageError(f"There is no {weights} yet: run the stage `probe` first.")
    for scores in score_run(place):
        merge_scores(place.run, scores)
        place.stop.obey()


def run_checkpoint(place: Workplace) -> None:
    """Write the checkpoint that `animatic export blockout` reads."""
    from animatic_training.checkpoint import write_release
    from animatic_training.parts import split_file

    student = place.student(place.method)
    path = write_release(place.config, place.vae(), student, place.run, place.method)
    if place.part_bytes is not None:
        split_file(path, place.part_bytes)


def checkpoint_of(stage: str, method: str) -> str | None:
    """Return the name of the checkpoint that a stage trains, if it trains one."""
    from animatic_training.distill import student_file

    files = {"vae": "vae.pt", "stills": "stills.pt", "denoiser": "denoiser.pt", "probe": "probe.pt"}
    return student_file(method) if stage == "distill" else files.get(stage)


STAGES: Final[dict[str, Callable[[Workplace], None]]] = {
    "render": run_render,
    "vae": run_vae,
    "latents": run_latents,
    "stills": run_stills,
    "denoiser": run_denoiser,
    "distill": run_distill,
    "probe": run_probe,
    "score": run_score,
    "checkpoint": run_checkpoint,
}


def merge_scores(run: Path, scores: Mapping[str, float]) -> None:
    """Add figures to `run/scores.json`."""
    path = run / "scores.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update({name: round(value, 4) for name, value in scores.items()})
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    log.info("%s", dict(scores))
