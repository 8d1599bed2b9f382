"""`animatic calibrate`: eight-bit graphs into a bundle, all or none."""

from __future__ import annotations

from pathlib import Path

import click

from animatic_calibration.effort import COSTLY_CLIPS

DEFAULT_PROMPTS = 12


@click.command("calibrate")
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(("int8", "fp8")),
    default="int8",
    show_default=True,
    help="What to quantise to; fp8 is for RTX 40 and newer.",
)
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
    show_default=f"{DEFAULT_PROMPTS}, or {COSTLY_CLIPS} of a large model",
    help="How many prompts to calibrate with, a clip each.",
)
@click.option(
    "--prompt-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Your own prompts, one a line; every fourth is only measured on.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="How long these clips are; otherwise as usual, or of a large model as short as can be.",
)
@click.option(
    "--ranges",
    type=click.Choice(("percentile", "mse", "entropy")),
    help="One way to clip every tensor; otherwise the best for each.",
)
@click.option(
    "--target-psnr",
    type=click.FloatRange(min=1, max=100),
    default=35.0,
    show_default=True,
    help="How near clips stay to the float32 ones, in dB; layers are left in fp16 until they do.",
)
@click.option("--force", is_flag=True, help="Calibrate again though nothing has changed.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of the steps.")
def command(  # noqa: PLR0913, PLR0917, one per option
    bundle: Path,
    precision: str,
    prompts: int | None,
    prompt_file: Path | None,
    frames: int | None,
    ranges: str | None,
    target_psnr: float,
    force: bool,  # noqa: FBT001, click passes it
    quiet: bool,  # noqa: FBT001
) -> None:
    """Quantise a bundle's denoiser and decoders.

    Clips are made to see what flows through the float16 graphs; the layers then become eight bits
    wide, but for those that would cost too much. Of a large model, whose clips take minutes, they
    are few, short and small. The report is written into the bundle.
    """
    from animatic_calibration.calibrate import Settings, calibrate_bundle
    from animatic_calibration.formats import FORMATS
    from animatic_calibration.prompts import built_in_prompts, read_prompts, split_prompts

    if ranges and ranges not in FORMATS[precision].ranges:
        raise click.UsageError(f"--ranges {ranges} is for int8: leave it out with {precision}.")
    texts = built_in_prompts() if prompt_file is None else read_prompts(prompt_file)

    def tell(line: str) -> None:
        if not quiet:
            click.echo(f"calibrate: {line}", err=True)

    report = calibrate_bundle(
        bundle,
        split_prompts(texts, prompts or DEFAULT_PROMPTS),
        Settings(precision, ranges, target_psnr, clips=prompts, frames=frames),
        force=force,
        tell=tell,
    )
    if report is None:
        tell("nothing has changed since the last calibration")
        click.echo(bundle)
    else:
        click.echo(report.with_suffix(".md"))
