"""``animatic generate``: a prompt in, a clip out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from animatic.cli.naming import DefaultName, default_names, named_targets
from animatic.cli.parameters import bundle_option, rate, threads_option
from animatic.cli.parameters import size as parse_size
from animatic.cli.progress import progress_bar

if TYPE_CHECKING:
    from fractions import Fraction

    from animatic.pipeline import Pipeline
    from animatic.shot import Shot

__all__ = ["command"]

Target = Path | DefaultName | Literal["-"]


@click.command("generate", short_help="Make a clip of a prompt.")
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to: .mp4, .mov, .webp, .gif, .rgb, a folder or name.%04d.png for a PNG sequence, "
    "or - for raw RGB24 on standard output. Without it, an MP4 here, named for the prompt.",
)
@bundle_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option(
    "--size",
    callback=parse_size,
    metavar="WxH",
    help="Width and height in pixels; without it, the model's own.",
)
@click.option("--seconds", type=float, metavar="S", help="How long, at the rate it is played at.")
@click.option("--frames", type=int, metavar="N", help="How long, counted in frames.")
@click.option(
    "--fps",
    callback=rate,
    metavar="R",
    help="The rate at which the frames are played, such as 24 or 24000/1001; none is added or "
    "dropped. Without it, the model's own.",
)
@click.option(
    "--variants",
    type=click.IntRange(1, 999),
    default=1,
    metavar="N",
    help="Make N different clips of the shot, in files that end in _v1, _v2, …",
)
@threads_option
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(  # noqa: PLR0913, one per option
    *,
    prompt: str,
    output: str | None,
    bundle: Path | None,
    seed: int,
    size: tuple[int, int] | None,
    seconds: float | None,
    frames: int | None,
    fps: Fraction | None,
    variants: int,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Make a clip of PROMPT and print the path of the file."""
    if seconds is not None and frames is not None:
        raise click.UsageError("--seconds and --frames exclude each other; give one of them.")
    if output == "-" and variants > 1:
        raise click.UsageError("A pipe takes one clip; leave out --variants, or name a file.")

    from animatic.shot import Shot
    from animatic.store import open_bundle

    shots = [
        Shot(
            prompt=prompt,
            seed=seed,
            size=size,
            seconds=seconds,
            frames=frames,
            fps=fps,
            variant=variant,
        )
        for variant in range(variants)
    ]
    # A shot that cannot be made is refused before the model is loaded, which takes a while.
    shots[0].plan(open_bundle(bundle, verify=False).bundle)
    targets: list[Target]
    if output is None:
        targets = [*default_names(prompt, seed, variants)]
    elif output == "-":
        _refuse_terminal()
        targets = ["-"]
    else:
        targets = [*named_targets(Path(output), variants, force=force)]

    from animatic.pipeline import Pipeline

    with Pipeline.open(bundle, threads=threads) as pipeline:
        for shot, target in zip(shots, targets, strict=True):
            if isinstance(target, DefaultName):
                with target.hidden():
                    _render(
                        pipeline,
                        shot,
                        target.unfinished,
                        str(target.first),
                        overwrite=False,
                        quiet=quiet,
                    )
                    click.echo(target.publish())
                continue
            _render(pipeline, shot, target, str(target), overwrite=force, quiet=quiet)
            if target != "-":
                click.echo(target)


def _render(
    pipeline: Pipeline,
    shot: Shot,
    target: Path | Literal["-"],
    label: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make one clip; the target appears when it is complete, or not at all."""
    from animatic.sinks import open_sink

    record = pipeline.record(shot)
    with (
        open_sink(
            target,
            width=record.width,
            height=record.height,
            fps=record.rate(),
            record=record,
            overwrite=overwrite,
        ) as sink,
        progress_bar(label, quiet=quiet) as on_progress,
    ):
        for frame in pipeline.generate(shot, on_progress=on_progress):
            sink.write(frame)


def _refuse_terminal() -> None:
    if sys.stdout.isatty():
        raise click.UsageError("Raw frames are no text for a terminal; pipe them, or name a file.")
