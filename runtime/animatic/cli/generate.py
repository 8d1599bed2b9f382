"""``animatic generate``: a prompt in, a clip out."""

from __future__ import annotations

import logging
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from animatic.cli.naming import DefaultName, check_kept, default_names, named_targets
from animatic.cli.parameters import (
    bundle_option,
    clip_name,
    clip_names,
    device_option,
    images,
    output_name,
    precision_option,
    rate,
    threads_option,
)
from animatic.cli.parameters import size as parse_size
from animatic.cli.progress import progress_bar
from animatic.cli.stopping import Stop, pass_stop
from animatic.errors import OutputError

if TYPE_CHECKING:
    from animatic.bundle import DecoderRole
    from animatic.engine.choice import DeviceName, TextDevice
    from animatic.pipeline import Pipeline
    from animatic.shot import DecoderName, Shot, ShotPlan

__all__ = ["command"]

_log = logging.getLogger(__name__)

HALF_A_FRAME: Final = Fraction(1, 2)  # less is only how a length is written

Target = Path | DefaultName | Literal["-"]


@click.command("generate", short_help="Make a clip of a prompt.")
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    callback=output_name,
    metavar="FILE",
    help="Where to: .mp4, .mov, .webp, .gif, .rgb, a folder or name.####.png for a PNG sequence, "
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
    help="The rate at which the frames are played, such as 24 or 24000/1001, which is also what "
    "23.976 means; none is added or dropped. Without it, the model's own.",
)
@click.option(
    "--image",
    "given_images",
    multiple=True,
    callback=images,
    metavar="FRAME=FILE",
    help="A picture that the shot shows at a frame, counted from 0, or from the end with -1; may "
    "be given several times.",
)
@click.option(
    "--continue",
    "continue_from",
    callback=clip_name,
    metavar="CLIP",
    help="Go on where CLIP ends: a film, an animation, a folder of PNGs or name.####.png. Only the "
    "new frames are written.",
)
@click.option(
    "--before", callback=clip_name, metavar="CLIP", help="Lead to where CLIP begins, likewise."
)
@click.option(
    "--loop", is_flag=True, help="Lead back to the first frame, so that it can be looped."
)
@click.option(
    "--join",
    nargs=2,
    callback=clip_names,
    metavar="A B",
    help="Go on from A and lead to B: the same as --continue A --before B.",
)
@click.option(
    "--variants",
    type=click.IntRange(1, 999),
    default=1,
    metavar="N",
    help="Make N different clips of the shot, in files that end in _v1, _v2, …",
)
@click.option(
    "--tier",
    metavar="NAME",
    help="One of the model's own choices of size, steps and decoder; what is given beside it wins.",
)
@click.option("--preview", is_flag=True, help="The same as --tier preview.")
@click.option("--final", is_flag=True, help="The same as --tier final.")
@click.option(
    "--steps", type=int, metavar="N", help="Sampler steps, where the model offers several."
)
@click.option(
    "--guidance",
    type=float,
    metavar="G",
    help="How closely to follow the prompt, where the model can be guided: from 1, which is not at "
    "all and twice as fast, to 100; without it, the model's own.",
)
@click.option(
    "--negative-prompt",
    metavar="TEXT",
    help="What guidance leads away from; without it, the model's own.",
)
@click.option(
    "--decoder",
    type=click.Choice(["vae", "tiny", "vae_decoder", "tiny_decoder"]),
    metavar="[vae|tiny]",
    help="What draws the pictures; without it, the tier's, or the tiny one where there is one.",
)
@device_option
@precision_option
@click.option(
    "--text-device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where the text encoder runs; auto leaves one that is large on the processor.",
)
@click.option(
    "--fallback",
    is_flag=True,
    help="If the GPU is lost in mid-clip, finish on the processor instead.",
)
@threads_option
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@pass_stop
def command(  # noqa: PLR0913, one per option
    stop: Stop,
    *,
    prompt: str,
    output: str | None,
    bundle: Path | None,
    seed: int,
    size: tuple[int, int] | None,
    seconds: float | None,
    frames: int | None,
    fps: Fraction | None,
    given_images: dict[int, Path],
    continue_from: Path | None,
    before: Path | None,
    loop: bool,
    join: tuple[Path, Path] | None,
    variants: int,
    tier: str | None,
    preview: bool,
    final: bool,
    steps: int | None,
    guidance: float | None,
    negative_prompt: str | None,
    decoder: DecoderName | DecoderRole | None,
    device: DeviceName,
    precision: str | None,
    text_device: TextDevice,
    fallback: bool,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Make a clip of PROMPT and print the path of the file."""
    if seconds is not None and frames is not None:
        raise click.UsageError("--seconds and --frames exclude each other; give one of them.")
    if output == "-" and variants > 1:
        raise click.UsageError("A pipe takes one clip; leave out --variants, or name a file.")
    tier = _named_tier(tier, preview=preview, final=final)
    if join is not None:
        if continue_from is not None or before is not None:
            raise click.UsageError(
                "--join names the clips that --continue and --before name; leave those out."
            )
        continue_from, before = join

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
            tier=tier,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            decoder=decoder,
            images=given_images,
            continue_from=continue_from,
            before=before,
            loop=loop,
        )
        for variant in range(variants)
    ]
    # A shot that cannot be made is refused before the model is loaded, which takes a while.
    plan = shots[0].plan(open_bundle(bundle, verify=False).bundle)
    targets: list[Target]
    if output is None:
        targets = [*default_names(prompt, seed, variants)]
    elif output == "-":
        _check_standard_output()
        targets = ["-"]
    else:
        named = named_targets(Path(output), variants, force=force)
        check_kept(named, plan.given.files())
        targets = [*named]

    if seconds is not None:
        _note_length(seconds, plan)
    _note_crops(plan)

    from animatic.pipeline import Pipeline

    with Pipeline.open(
        bundle,
        device=device,
        precision=precision,
        text_device=text_device,
        threads=threads,
        fallback=fallback,
    ) as pipeline:
        choice = pipeline.choice
        if choice is not None and choice.is_fallback:
            click.echo(f"animatic: {choice.reason}", err=True)
        for shot, target in zip(shots, targets, strict=True):
            if isinstance(target, DefaultName):
                with target.hidden():
                    _render(
                        pipeline,
                        shot,
                        target.unfinished,
                        str(target.first),
                        stop,
                        overwrite=False,
                        quiet=quiet,
                    )
                    click.echo(target.publish())
                continue
            _render(pipeline, shot, target, str(target), stop, overwrite=force, quiet=quiet)
            if target != "-":
                click.echo(target)


def _named_tier(tier: str | None, *, preview: bool, final: bool) -> str | None:
    """Find the one tier that the options name; UsageError if they name several."""
    names = {"preview": preview, "final": final, tier: tier is not None}
    if sum(names.values()) > 1:
        raise click.UsageError(
            "--tier, --preview and --final name different tiers; give one of them."
        )
    return next((name for name, asked in names.items() if asked), None)


class _GpuLostError(Exception):
    """The processor stands in from here on: what was written so far says otherwise."""


def _render(
    pipeline: Pipeline,
    shot: Shot,
    target: Path | Literal["-"],
    label: str,
    stop: Stop,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make one clip; the target appears when it is complete, or not at all.

    A clip whose GPU was lost is begun anew on the processor, so that its record says what drew it;
    into a pipe it goes on.
    """
    try:
        _draw(pipeline, shot, target, label, stop, overwrite=overwrite, quiet=quiet)
    except _GpuLostError:
        _draw(pipeline, shot, target, label, stop, overwrite=overwrite, quiet=quiet)


def _draw(
    pipeline: Pipeline,
    shot: Shot,
    target: Path | Literal["-"],
    label: str,
    stop: Stop,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
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
            stop.check()
            if frame.fallback and record.backend != "onnxruntime" and target != "-":
                raise _GpuLostError
            sink.write(frame)


def _note_length(seconds: float, plan: ShotPlan) -> None:
    """Say where the clip's length is another than the one that was asked for."""
    if abs(plan.frames - Fraction(seconds) * plan.fps) >= HALF_A_FRAME:
        _log.warning(
            "%g s is not a length that this model makes at %s frames per second: the clip is "
            "%d frames, %.4g s.",
            seconds,
            plan.fps,
            plan.frames,
            float(plan.frames / plan.fps),
        )


def _note_crops(plan: ShotPlan) -> None:
    """Say what is cut off of pictures and clips of another shape than the shot's."""
    from animatic.sources import crops

    for source in plan.given.sources():
        if crops(source.size, (plan.width, plan.height)):
            _log.warning(
                "%s is %dx%d and the shot %dx%d: what stands out is cut off.",
                source.name,
                *source.size,
                plan.width,
                plan.height,
            )


def _check_standard_output() -> None:
    if sys.stdout is None:
        from animatic.sinks.raw import CLOSED

        raise OutputError(CLOSED)
    if sys.stdout.isatty():
        raise click.UsageError("Raw frames are no text for a terminal; pipe them, or name a file.")
