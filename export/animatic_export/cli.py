"""`animatic export`: a checkpoint to a bundle, and on to another precision and engines."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPES = ("blockout",)
PRECISIONS = ("fp16", "bf16", "int8", "fp8")


@click.command("export")
@click.argument("recipe", type=click.Choice(RECIPES))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Weights to export (safetensors), such as run/blockout.safetensors; without it, those of "
    "the built-in model.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Bundle folder."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Add graphs typed in this precision, for engines; without it, each target's own default, "
    "and none without --target.",
)
@click.option(
    "--target",
    "targets",
    metavar="T[,T…]",
    help="Compile engines for these GPUs (`animatic targets` lists them; auto is this machine's).",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
def command(
    *,
    recipe: str,
    checkpoint: Path | None,
    out: Path,
    precision: str | None,
    targets: str | None,
    force: bool,
) -> None:
    """Convert a checkpoint to ONNX graphs and write a bundle that the runtime plays.

    Every graph is run in ONNX Runtime and compared with torch before the bundle appears. Whatever
    is there already and still up to date is not done again: run the same command with another
    --precision or --target to add to a bundle.
    """
    from animatic_engines.build import Request
    from animatic_engines.choices import check_target
    from animatic_engines.cli import build_aloud, find_targets
    from animatic_export.steps import add_precision, wanted_precisions

    found = () if targets is None else find_targets(targets)
    for target in found:  # refused before the work begins
        check_target(target, precision or target.default_precision)
    _make_reference(recipe, checkpoint, out, force=force)
    for each in wanted_precisions(precision, found):
        with _explained(out):
            add_precision(out, each, _say)
    if found:
        build_aloud(out, Request(found, precision), quiet=False)
    click.echo(out)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _make_reference(recipe: str, checkpoint: Path | None, out: Path, *, force: bool) -> None:
    """Write the bundle with its reference graphs, unless it is there and current."""
    from animatic.store import shipped_bundle_path
    from animatic_export.blockout.recipe import copy_built_in, export_blockout, is_current

    if checkpoint is None and out.exists() and out.samefile(shipped_bundle_path()):
        raise click.ClickException(f"{out} is the built-in model itself: choose another --out.")
    if out.exists() and not (out / "bundle.json").is_file():
        raise click.ClickException(f"{out} is there and is not a bundle: choose another --out.")
    if out.exists() and not force:
        if is_current(out, checkpoint):
            click.echo(f"{out} holds the graphs of this checkpoint already.", err=True)
            return
        raise click.ClickException(
            f"{out} is there already, from another checkpoint: give --force to replace it."
        )
    # Made beside and renamed: a failure leaves no half bundle, and the old one as it was.
    making = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(making, ignore_errors=True)  # of a run that was killed and had our number
        with _writable(out):
            making.mkdir(parents=True)
        with _explained(out):
            if checkpoint is None:
                copy_built_in(making)
                errors = {}
            else:
                words = f"animatic export {recipe} --checkpoint {checkpoint.name} --out {out.name}"
                errors = export_blockout(checkpoint, making, words).errors
        with _writable(out):
            swap_in(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    for role, size in errors.items():
        click.echo(f"{role}: relative error against torch {size:.1e}", err=True)


def swap_in(made: Path, out: Path) -> None:
    """Rename the folder `made` to `out`; what was there goes only when the new one stands.

    Whatever breaks in, Ctrl-C too, `out` is afterwards the old folder or the new one, whole.
    """
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        if out.exists():
            out.rename(old)
        made.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Explain an OSError as one of the folder that the bundle is to be."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): choose a folder you may write to, on a "
            "disk with room."
        ) from error


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Say in one sentence what broke an export off."""
    from animatic_export.errors import ExportError

    try:
        yield
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            sentence = f"The disk of {out} is full: make room on it, or choose another --out."
        elif error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            sentence = f"{out} cannot be written ({error.strerror}): copy it elsewhere."
        else:
            sentence = f"The export broke off ({error}): mend that, then export again."
        raise click.ClickException(sentence) from error
