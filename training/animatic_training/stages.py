"""The stages of training, in order. Each resumes where it stopped and is skipped when done."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from animatic.engine.cores import usable_cores
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.vae import VideoVae
from animatic_training.atomic import whole_file
from animatic_training.budget import is_done, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic_training.config import Config

log = logging.getLogger("animatic_training")

SCORED_PROMPTS = 500


@dataclass(frozen=True)
class Workplace:
    """Where a training run keeps its files, and what it computes on."""

    config: Config
    run: Path
    device: torch.device

    @property
    def data(self) -> Path:
        """The folder of rendered shards and their latents."""
        return self.run / "data"

    @property
    def on_accelerator(self) -> bool:
        """Whether it computes on something faster than the CPU's cores."""
        return self.device.type != "cpu"

    def require_shards(self) -> None:
        """Refuse to go on without training and held-out shards."""
        from animatic_training.dataset import ready_shards

        for held_out in (False, True):
            if not ready_shards(self.config, self.data, held_out=held_out):
                raise StageError(
                    f"{self.data} holds no rendered shards: run the stage `render` first."
                )

    def denoiser(self, file: str, stage: str) -> Denoiser:
        """Return the averaged weights of `denoiser.pt` or `student.pt`, which `stage` makes."""
        minutes = (self.config.distill if stage == "distill" else self.config.train).minutes
        state = self._finished(file, stage, minutes)
        denoiser = Denoiser(self.config.denoiser_config).to(self.device)
        denoiser.load_state_dict(state["ema"])
        return denoiser.eval()

    def teacher(self) -> Denoiser:
        """Return the trained many-step denoiser."""
        return self.denoiser("denoiser.pt", "denoiser")

    def student(self) -> Denoiser:
        """Return the distilled denoiser."""
        return self.denoiser("student.pt", "distill")

    def vae(self) -> VideoVae:
        """Return the trained VAE."""
        state = self._finished("vae.pt", "vae", self.config.vae_training.minutes)
        vae = VideoVae(self.config.vae).to(self.device)
        vae.load_state_dict(state["model"])
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return vae.eval()

    def _finished(self, file: str, stage: str, minutes: float) -> dict[str, Any]:
        """Read a checkpoint of a stage that has come to its end; StageError if it has not."""
        state = read_checkpoint(self.run / file)
        if state is None:
            raise StageError(f"There is no {self.run / file} yet: run the stage `{stage}` first.")
        if not is_done(state, minutes):
            raise StageError(
                f"{self.run / file} is not finished: run the stage `{stage}` to its end."
            )
        return state


class StageError(Exception):
    """A stage lacks what an earlier one makes; the message names that stage."""


def run_render(place: Workplace) -> None:
    """Render every missing shard: on all cores, or on the accelerator where there is one."""
    from animatic_training.dataset import render_all, render_all_on

    if place.on_accelerator:
        numbers = render_all_on(place.device, place.config, place.data)
    else:
        numbers = render_all(place.config, place.data, usable_cores())
    for number in numbers:
        log.info("shard %d is there", number)


def run_vae(place: Workplace) -> None:
    """Train the VAE and score it on held-out renders."""
    from animatic_training.dataset import clips_path, ready_shards
    from animatic_training.train_vae import score_vae, train_vae

    place.require_shards()
    train_vae(place.config, place.data, place.run, place.device)
    held_out = ready_shards(place.config, place.data, held_out=True)[0]
    clips = np.load(clips_path(place.data, held_out), mmap_mode="r")[:200]
    merge_scores(place.run, score_vae(place.vae(), clips, place.device))


def run_latents(place: Workplace) -> None:
    """Encode every shard that is there."""
    from animatic_training.dataset import ready_shards
    from animatic_training.latents import encode_shard

    vae = place.vae()
    for number in ready_shards(place.config, place.data):
        encode_shard(vae, place.data, number, place.device)
        log.info("latents of shard %d are there", number)


def run_denoiser(place: Workplace) -> None:
    """Train the many-step teacher."""
    from animatic_training.dataset import ready_shards
    from animatic_training.latents import load_latents
    from animatic_training.train_denoiser import train_denoiser

    try:
        clips = load_latents(place.data, ready_shards(place.config, place.data), place.vae())
    except FileNotFoundError as error:
        raise StageError(f"{error} Run the stage `latents` first.") from error
    train_denoiser(place.config, clips, place.run, place.device)


def run_distill(place: Workplace) -> None:
    """Distil the guided teacher into few steps."""
    from animatic_training.distill import distill

    distill(place.config, place.teacher(), place.run, place.device)


def run_probe(place: Workplace) -> None:
    """Train the probe and score it on held-out renders."""
    from animatic_training.dataset import clips_path, labels_path, ready_shards
    from animatic_training.probe import accuracy, read_clips, save_probe, train_probe
    from animatic_training.train_vae import decode_again

    place.require_shards()
    probe = train_probe(place.config, place.data, place.run, place.vae(), place.device)
    save_probe(probe, place.run / "probe.safetensors")
    held_out = ready_shards(place.config, place.data, held_out=True)[0]
    clips = np.load(clips_path(place.data, held_out))
    labels = np.load(labels_path(place.data, held_out))
    # Through the VAE too: what a perfect denoiser would score.
    for kind, shown in (("renders", clips), ("decoded", decode_again(place.vae(), clips))):
        shares = accuracy(read_clips(probe, shown, place.device), labels)
        merge_scores(place.run, {f"probe_{kind}_{name}": share for name, share in shares.items()})


def run_score(place: Workplace) -> None:
    """Score teacher and student with the probe on unseen prompts."""
    from animatic_training.probe import load_probe
    from animatic_training.score import score_models

    weights = place.run / "probe.safetensors"
    if not weights.exists():
        raise StageError(f"There is no {weights} yet: run the stage `probe` first.")
    probe = load_probe(weights, place.config.clip.frames).to(place.device)
    models = {"teacher": place.teacher(), "student": place.student()}
    scores = score_models(place.config, models, place.vae(), probe, SCORED_PROMPTS)
    merge_scores(place.run, scores)


def run_checkpoint(place: Workplace) -> None:
    """Write the checkpoint that `animatic export blockout` reads."""
    from animatic_training.checkpoint import write_release

    write_release(place.config, place.vae(), place.student(), place.run)


STAGES: Final[dict[str, Callable[[Workplace], None]]] = {
    "render": run_render,
    "vae": run_vae,
    "latents": run_latents,
    "denoiser": run_denoiser,
    "distill": run_distill,
    "probe": run_probe,
    "score": run_score,
    "checkpoint": run_checkpoint,
}


def merge_scores(run: Path, scores: dict[str, float]) -> None:
    """Add figures to `run/scores.json`."""
    path = run / "scores.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update({name: round(value, 4) for name, value in scores.items()})
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    log.info("%s", scores)
