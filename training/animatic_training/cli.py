"""`animatic train`: run the stages of training, one after the other, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from animatic_training.stages import Workplace

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
@click.option(
    "--config",
    metavar="NAME|FILE",
    help="What is trained: v1 (for one H100-class card), v1-cpu (for two cores and a night), toy "
    "(in minutes, pictures of nothing) or a TOML file of your own.",
)
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
    help="Also write the released checkpoint, and after every stage what another machine would "
    "need, in parts of at most so many MB.",
)
@click.option(
    "--take",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Go on from what another machine handed over: the parts in this folder.",
)
@click.option(
    "--stop-after",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Save and stop after so many minutes; the same command goes on from there.",
)
@click.option(
    "--rehearse",
    is_flag=True,
    help="Run every stage with its real shapes for some seconds, in the run's folder `rehearsal`, "
    "and say how fast each was.",
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
    *,
    config: str | None,
    run: Path,
    device: str,
    stages: tuple[str, ...],
    method: str | None,
    beginning: Path | None,
    pieces_mb: float | None,
    take: Path | None,
    stop_after: float | None,
    join: Path | None,
    rehearse: bool,
    planned: bool,
    tflops: float | None,
) -> None:
    """Train the built-in model Blockout from nothing: world, VAE, denoiser, distillation, scores.

    A run that is stopped goes on where it was; a stage whose minutes are used is skipped.
    """
    import logging
    from dataclasses import replace

    from animatic_training.budget import DamagedCheckpointError, Stopped
    from animatic_training.config import ConfigError, load_config
    from animatic_training.handover import take_up
    from animatic_training.parts import PartsError, join_file
    from animatic_training.plan import describe
    from animatic_training.rehearsal import rehearsed
    from animatic_training.stages import StageError, Workplace
    from animatic_training.stopping import Stop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if join is not None:
            join_file(join)
            return
        if config is None:
            raise click.UsageError(
                "Say what to train: --config v1 on an H100-class card, v1-cpu on two cores, or toy "
                "to see every stage in minutes; with --plan it says what that costs."
            )
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
            Stop(stop_after),
        )
        run.mkdir(parents=True, exist_ok=True)
        if rehearse:
            _rehearse(replace(place, config=rehearsed(settings), run=run / "rehearsal"), stages)
            return
        for file in take_up(take, run) if take is not None else ():
            click.echo(f"{file} was taken up", err=True)
        with place.stop.listening():
            _run_stages(place, stages)
    except Stopped:
        click.echo("stopped as asked: the same command goes on from here", err=True)
    except (ConfigError, StageError, DamagedCheckpointError, PartsError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"Training stopped at a file ({error}): make room on the disk and see that you may "
            f"write to {run}, then run it again; it goes on where it was."
        ) from error


def _run_stages(place: Workplace, stages: Sequence[str]) -> None:
    """Run stages; after each, or where one is stopped, write what another machine would need."""
    import time

    from animatic_training.budget import Stopped
    from animatic_training.handover import FILES, hand_over
    from animatic_training.rehearsal import stage_line
    from animatic_training.stages import STAGES, checkpoint_of

    for name in stages or STAGE_NAMES:
        click.echo(f"stage {name}", err=True)
        began, file = time.monotonic(), checkpoint_of(name, place.method)
        stopped: Stopped | None = None
        try:
            STAGES[name](place)
        except Stopped as asked:
            stopped = asked
        click.echo(stage_line(place, name, time.monotonic() - began), err=True)
        if place.part_bytes is not None and file in FILES:
            hand_over(place.run, file, place.part_bytes)
        if stopped is not None:
            raise stopped
        if name == "checkpoint":
            made = place.run / "blockout.safetensors"
            click.echo(
                f"{made} is ready: animatic export blockout --checkpoint {made} --out my-bundle",
                err=True,
            )


def _rehearse(place: Workplace, stages: Sequence[str]) -> None:
    """Run stages briefly from nothing, and print how each went beside the plan.

    One that fails does not hide what the next ones would say; then the command fails at its end.
    """
    import logging
    import shutil
    import time

    from animatic_training.rehearsal import counted, machine, stage_line
    from animatic_training.stages import STAGES, checkpoint_of

    shutil.rmtree(place.run, ignore_errors=True)
    place.run.mkdir()
    click.echo(machine(place))
    failed = []
    with counted(place) as counting:
        for name in stages or STAGE_NAMES:
            began = time.monotonic()
            try:
                STAGES[name](place)
            except Exception:
                logging.getLogger("animatic_training").exception("stage %s failed", name)
                failed.append(name)
                continue
            seconds = time.monotonic() - began
            trained = checkpoint_of(name, place.method) is not None
            costs = {cost.stage: cost for cost in counting.result()} if trained else None
            click.echo(stage_line(place, name, seconds, costs))
    if failed:
        raise click.ClickException(
            f"The stages {', '.join(failed)} failed: their tracebacks are above."
        )


def _device(name: str) -> torch.device:
    """Return a device that torch computes on here; ClickException if it does not."""
    import torch

    from animatic_training.arithmetic import keep_to_sound_kernels

    keep_to_sound_kernels()
    try:
        device = torch.device(name)
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
        raise click.ClickException(
            f"The torch that is installed ({torch.__version__}) cannot compute on {name!r}: give "
            "`--device cpu`, or install a build of torch for that device."
        ) from error
    return device
