"""`animatic train`: run the stages of training, one after the other, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import torch

STAGE_NAMES = ("render", "vae", "latents", "denoiser", "distill", "probe", "score", "checkpoint")
READS_CAPTIONS = frozenset({"denoiser", "distill", "score"})
"""Stages that need the text encoder's files."""


@click.command("train")
@click.option("--config", default="v0", show_default=True, help="Configuration: a name or a file.")
@click.option(
    "--run",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("run"),
    show_default=True,
    help="Folder for data, checkpoints and scores.",
)
@click.option("--device", default="cpu", show_default=True, help="A torch device, such as cuda.")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    type=click.Choice(STAGE_NAMES),
    help="Run only this stage (may be given several times); default: all, in order.",
)
def command(config: str, run: Path, device: str, stages: tuple[str, ...]) -> None:
    """Train the built-in model Blockout from nothing: world, VAE, denoiser, distillation, scores.

    A run that is stopped goes on where it was; a stage whose minutes are used is skipped.
    """
    import logging

    from animatic_export.blockout.minilm import minilm_folder
    from animatic_export.errors import CheckpointError
    from animatic_training.budget import DamagedCheckpointError
    from animatic_training.config import ConfigError, load_config
    from animatic_training.stages import STAGES, StageError, Workplace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        place = Workplace(load_config(config), run, _device(device))
        chosen = stages or STAGE_NAMES
        if READS_CAPTIONS.intersection(chosen):
            minilm_folder()  # said now rather than when the hours before that stage are spent
        run.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            click.echo(f"stage {name}", err=True)
            STAGES[name](place)
    except (ConfigError, StageError, CheckpointError, DamagedCheckpointError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"Training stopped at a file ({error}): make room on the disk and see that you may "
            f"write to {run}, then run it again; it goes on where it was."
        ) from error


def _device(name: str) -> torch.device:
    """Return a device that torch computes on here; ClickException if it does not."""
    import torch

    try:
        device = torch.device(name)
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
        raise click.ClickException(
            f"torch cannot compute on the device {name!r} here: give `cpu`, or one that this torch "
            "was built for, such as `cuda`."
        ) from error
    return device
