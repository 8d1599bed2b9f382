"""`animatic export`: a checkpoint to a bundle, whole or not at all."""

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


@click.command("export")
@click.argument("recipe", type=click.Choice(RECIPES))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    required=True,
    help="Weights to export (safetensors), such as run/blockout.safetensors.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Bundle folder."
)
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
def command(recipe: str, checkpoint: Path, out: Path, force: bool) -> None:  # noqa: FBT001
    """Convert a checkpoint to ONNX graphs and write a bundle that the runtime plays.

    Every graph is run in ONNX Runtime and compared with torch before the bundle appears.
    """
    from animatic_export.blockout.recipe import export_blockout
    from animatic_export.errors import ExportError

    if out.exists() and not (out / "bundle.json").is_file():
        raise click.ClickException(f"{out} is there and is not a bundle: choose another --out.")
    if out.exists() and not force:
        raise click.ClickException(f"{out} is there already: give --force to replace it.")
    # Made beside and renamed: a failure leaves no half bundle, and the old one as it was.
    making = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    words = f"animatic export {recipe} --checkpoint {checkpoint.name} --out {out.name}"
    try:
        with _writable(out):
            making.mkdir(parents=True)
        report = export_blockout(checkpoint, making, words)
        with _writable(out):
            swap_in(making, out)
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(_broken_off(out, error)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    for role, error_size in report.errors.items():
        click.echo(f"{role}: relative error against torch {error_size:.1e}", err=True)
    click.echo(out)


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


def _broken_off(out: Path, error: OSError) -> str:
    """Say what broke an export off while its files were read and written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk of {out} is full: make room on it, or choose another --out."
    return f"The export broke off ({error}): mend that, then export again."
