"""`animatic train`: run the stages of training, one after the other, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import torch

STAGE_NAMES = (
    "render",
    "vae",
    "latents",
    "stills",
    "denoiser",
    "distill",
    "probe",
    "score",
    "checkpoint",
)
MEGABYTE = 1_000_000


@click.command("train")
@click.option("--config", default="v1", show_default=True, help="Configuration: a name or a file.")
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
@click.option(
    "--method",
    type=click.Choice(["dmd", "perflow"]),
    help="Distil by this method; default: the configuration's.",
)
@click.option(
    "--from",
    "beginning",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Begin with the networks of the run in this folder.",
)
@click.option(
    "--pieces-mb",
    type=click.FloatRange(min=0.001),
    help="Also write the released checkpoint in parts of at most so many MB.",
)
@click.option(
    "--join",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Put together a file that was written in parts, and do nothing else.",
)
@click.option(
    "--plan",
    "planned",
    is_flag=True,
    help="Print what the configuration costs, counted, and do nothing else.",
)
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    help="Of --plan: TFLOP/s that the machine reaches; default: shares of an H100's peak.",
)
def command(  # noqa: PLR0913, one argument an option
    config: str,
    run: Path,
    device: str,
    stages: tuple[str, ...],
    method: str | None,
    beginning: Path | None,
    pieces_mb: float | None,
    join: Path | None,
    *,
    planned: bool,
    tflops: float | None,
) -> None:
    """Train the built-in model Blockout from nothing: world, VAE, denoiser, distillation, scores.

    A run that is stopped goes on where it was; a stage whose minutes are used is skipped.
    """
    import logging

    from animatic_training.budget import DamagedCheckpointError
    from animatic_training.config import ConfigError, load_config
    from animatic_training.parts import PartsError, join_file
    from animatic_training.plan import describe
    from animatic_training.stages import STAGES, StageError, Workplace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if join is not None:
            join_file(join)
            return
        settings = load_config(config)
        if planned:
            click.echo(
                describe(settings, method or settings.distill.method, tflops and tflops * 1e12)
            )
            return
        place = Workplace(
            settings,
            run,
            _device(device),
            method or settings.distill.method,
            beginning,
            int(pieces_mb * MEGABYTE) if pieces_mb else None,
        )
        run.mkdir(parents=True, exist_ok=True)
        for name in stages or STAGE_NAMES:
            click.echo(f"stage {name}", err=True)
            STAGES[name](place)
    except (ConfigError, StageError, DamagedCheckpointError, PartsError) as error:
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
