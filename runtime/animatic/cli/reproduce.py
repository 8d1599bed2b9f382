"""``animatic reproduce``: render a clip again from the record inside it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from animatic.cli.naming import check_kept, named_targets
from animatic.cli.parameters import bundle_option, device_of, output_name, threads_option
from animatic.cli.progress import progress_bar
from animatic.cli.stopping import Stop, pass_stop

if TYPE_CHECKING:
    from animatic.record import GenerationRecord
    from animatic.sinks import Sink

__all__ = ["command"]


@click.command("reproduce", short_help="Render a clip again and compare.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    callback=output_name,
    metavar="FILE",
    help="Keep the new clip here, in any format that generate writes; without it, only compare.",
)
@click.option(
    "--given",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the pictures and clips lie that it was made from; without it, where they lay, and "
    "beside the clip.",
)
@bundle_option
@threads_option
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
@pass_stop
def command(  # noqa: PLR0913, one per option
    stop: Stop,
    context: click.Context,
    *,
    file: Path,
    output: str | None,
    given: Path | None,
    bundle: Path | None,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Render the clip in FILE again and say whether it came out the same.

    The exit code is 1 where it did not.
    """
    import msgspec

    from animatic.cli.comparison import files_of, same_bytes, same_pixels
    from animatic.cli.originals import find_originals
    from animatic.errors import BundleError
    from animatic.pipeline import Pipeline
    from animatic.sinks import read_record
    from animatic.sinks.numbering import check_whole
    from animatic.store import open_bundle

    if output == "-":
        raise click.UsageError("reproduce reports on standard output; name a file for the clip.")
    record = read_record(file)
    opened = open_bundle(bundle, verify=False)
    if opened.digest != record.bundle_sha256:
        raise BundleError(
            f"{file} was made with the bundle {record.bundle_name} {record.bundle_sha256[:12]}, "
            f"and this is {opened.bundle.name} {opened.digest[:12]}; name the one that made it "
            "with --bundle."
        )
    if file.is_dir() or file.suffix.lower() == ".png":
        check_whole(file, record.frames)
    shot = record.shot(find_originals(record.given(), file, given))
    kept = named_targets(Path(output), 1, force=force) if output is not None else []
    check_kept(kept, [*files_of(file), *shot.plan(opened.bundle).given.files()])
    with (
        tempfile.TemporaryDirectory(prefix="animatic-") as scratch,
        Pipeline.open(
            bundle,
            device=device_of(record.backend),
            precision=record.precision or None,
            threads=threads,
            text_device=record.text_device or "auto",
        ) as pipeline,
    ):
        # The files are the same, wherever they lie now.
        now = msgspec.structs.replace(
            pipeline.record(shot),
            images=record.images,
            continue_from=record.continue_from,
            before=record.before,
        )
        if now.graphs_sha256 != record.graphs_sha256:
            raise BundleError(
                f"{file} was made with {record.precision or 'other'} graphs that have since been "
                f"made anew in {opened.root}; use a bundle that still has them, or generate the "
                "shot again."
            )
        again = Path(scratch) / ("again" + ("" if file.is_dir() else file.suffix))
        with contextlib.ExitStack() as stack:
            sinks = [
                stack.enter_context(_sink(target, now, overwrite=force))
                for target in [again, *kept]
            ]
            on_progress = stack.enter_context(progress_bar(str(file), quiet=quiet))
            for frame in pipeline.generate(shot, on_progress=on_progress):
                stop.check()
                for sink in sinks:
                    sink.write(frame)
        verdict: Literal["bytes", "pixels", "different"]
        if same_bytes(file, again):
            verdict = "bytes"
        else:
            verdict = "pixels" if same_pixels(file, again) else "different"
    for target in kept:
        click.echo(target)
    match verdict:
        case "bytes":
            click.echo(f"identical: every byte of {file} came out again")
        case "pixels":
            click.echo(
                f"identical pixels: {file} shows the same, its bytes differ (it was written by "
                f"animatic {record.animatic_version} or with another encoder)"
            )
        case "different":
            click.echo(f"different: {file} did not come out again on this machine")
            context.exit(1)


def _sink(
    target: Path, record: GenerationRecord, *, overwrite: bool
) -> contextlib.AbstractContextManager[Sink]:
    from animatic.sinks import open_sink

    return open_sink(
        target,
        width=record.width,
        height=record.height,
        fps=record.rate(),
        record=record,
        overwrite=overwrite,
    )
