"""`animatic train`: run the stages of training, one after the other, resumable."""

from __future__ import annotations

from pathlib import Path

import click

STAGE_NAMES = ("render", "vae", "latents", "denoiser", "distill", "probe", "score", "checkpoint")


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

    import torch

    from animatic_export.blockout.minilm import MissingCheckpointError
    from animatic_training.config import ConfigError, load_config
    from animatic_training.stages import STAGES, StageError, Workplace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        place = Workplace(load_config(config), run, torch.device(device))
        run.mkdir(parents=True, exist_ok=True)
        for name in stages or STAGE_NAMES:
            click.echo(f"stage {name}", err=True)
            STAGES[name](place)
    except (ConfigError, StageError, MissingCheckpointError) as error:
        raise click.ClickException(str(error)) from error
