"""`animatic export`: a checkpoint to a bundle, and on to another precision and engines."""

from __future__ import annotations

import errno
import glob
import os
import re
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from animatic_export.recipe import RECIPES, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic_export.recipe import Recipe

BUILT_IN: Final = "blockout"
"""The recipe that needs no checkpoint: animatic brings its weights."""
PRECISIONS = ("fp16", "bf16", "int8", "fp8")


@click.command("export")
@click.argument("recipe", type=click.Choice(RECIPES))
@click.option(
    "--checkpoint",
    metavar="PATH|ID",
    help="What to export: a file, a folder or a hub id such as ORG/NAME; without it, the built-in "
    "model's own weights, or those that the bundle at --out holds already.",
)
@click.option(
    "--base",
    metavar="PATH|ID",
    help="Where the text encoder and the VAE are, if the checkpoint holds the denoiser alone.",
)
@click.option("--sampler", metavar="NAME", help="How the checkpoint was distilled to be sampled.")
@click.option(
    "--tiny-decoder", metavar="FILE", help="TAEHV weights, for a second decoder that is fast."
)
@click.option(
    "--lora",
    "adapters",
    metavar="FILE[:STRENGTH]",
    multiple=True,
    help="Merge a LoRA into the denoiser; may be given several times.",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    metavar="N",
    help="Latent frames that a causal denoiser sees, its own block included.",
)
@click.option("--size", "sizes", metavar="WxH[,WxH…]", help="Sizes to offer, the usual one first.")
@click.option("--frames", metavar="N[,N…]", help="Frame counts to offer, the usual one first.")
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
def command(  # noqa: PLR0913, one per option
    *,
    recipe: str,
    checkpoint: str | None,
    base: str | None,
    sampler: str | None,
    tiny_decoder: str | None,
    adapters: tuple[str, ...],
    window: int | None,
    sizes: str | None,
    frames: str | None,
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
    from animatic_engines.build import Request as Build
    from animatic_engines.choices import check_target
    from animatic_engines.cli import build_aloud, find_targets
    from animatic_export.steps import add_precision, wanted_precisions

    found = () if targets is None else find_targets(targets)
    for target in found:  # refused before the work begins
        check_target(target, precision or target.default_precision)
    with _explained(out):
        typed = _as_typed(recipe, out)
    request = Request(
        checkpoint=checkpoint,
        base=base,
        sampler=sampler,
        tiny_decoder=tiny_decoder,
        adapters=adapters,
        window=window,
        sizes=_sizes(sizes),
        frames=_counts(frames),
        command=typed,
    )
    _make_reference(recipe, request, out, force=force)
    for each in wanted_precisions(precision, found):
        with _explained(out):
            add_precision(out, each, _say)
    if found:
        build_aloud(out, Build(found, precision), quiet=False)
    click.echo(out)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _sizes(text: str | None) -> tuple[tuple[int, int], ...]:
    words = [] if text is None else text.split(",")
    found = [re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", word.strip().lower()) for word in words]
    if not all(found):
        raise click.BadParameter(f"{text!r} is not one or more sizes such as 832x480,448x256.")
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def _counts(text: str | None) -> tuple[int, ...]:
    words = [] if text is None else text.split(",")
    if not all(re.fullmatch(r"[1-9]\d{0,5}", word.strip()) for word in words):
        raise click.BadParameter(f"{text!r} is not one or more frame counts such as 81,33.")
    return tuple(int(word) for word in words)


def _as_typed(recipe: str, out: Path) -> str:
    """The command that made the bundle, with the names of files and not where they lay.

    LoraError for a LoRA's strength that is none.
    """
    from animatic_export.checkpoint.adapter import parse_adapter
    from animatic_export.checkpoint.source import is_here

    context = click.get_current_context()
    words = ["animatic", "export", recipe]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if not isinstance(parameter, click.Option) or parameter.name == "out" or not value:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            words.append(parameter.opts[0])
            if each is True:
                continue
            text = str(each)
            file = parse_adapter(text)[0] if parameter.name == "adapters" else text
            words.append((Path(file).name if is_here(file) else file) + text.removeprefix(file))
    return shlex.join([*words, "--out", out.name])


def _make_reference(name: str, request: Request, out: Path, *, force: bool) -> None:
    """Write the bundle with its reference graphs, unless it is there and current."""
    from animatic.store import open_bundle, shipped_bundle_path
    from animatic_export.recipe import find_recipe

    if request.checkpoint is None and out.exists() and out.samefile(shipped_bundle_path()):
        raise click.ClickException(f"{out} is the built-in model itself: choose another --out.")
    if out.exists() and not (out / "bundle.json").is_file():
        raise click.ClickException(f"{out} is there and is not a bundle: choose another --out.")
    recipe = find_recipe(name)
    _refuse_foreign_options(recipe, request)
    there = open_bundle(out, verify=False).bundle if out.exists() and not force else None
    if there is not None and request.checkpoint is None and name != BUILT_IN:
        if there.family != name:
            raise click.ClickException(
                f"{out} is a bundle of {there.family} and not of {name}: choose another --out."
            )
        _refuse_idle_options(request)
        return  # more is to be added to it
    with _explained(out):
        export = recipe.prepare(request)
    if there is not None:
        if export.is_current(there):
            click.echo(f"{out} holds the graphs of this checkpoint already.", err=True)
            return
        raise click.ClickException(
            f"{out} is there already, from another checkpoint or with other settings: choose "
            "another --out, or give --force to replace it."
        )
    # Made beside and renamed: a failure leaves no half bundle, and the old one as it was.
    making = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(making, ignore_errors=True)  # of a run that was killed and had our number
        with _writable(out):
            _sweep(out)
            making.mkdir(parents=True)
        for notice in export.notices:
            click.echo(notice, err=True)
        with _explained(out):
            export.write(making, _say)
        with _writable(out):
            swap_in(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _refuse_foreign_options(recipe: Recipe, request: Request) -> None:
    """Refuse what a recipe does not understand rather than leave it out in silence."""
    for field, option in _given(request):
        if field not in {"checkpoint", *recipe.options}:
            raise click.UsageError(f"{recipe.name} does not take {option}; leave it out.")


def _refuse_idle_options(request: Request) -> None:
    """Refuse what changes nothing in a bundle that is there, rather than pass it over."""
    for _, option in _given(request):
        raise click.UsageError(
            f"{option} needs --checkpoint; without it, only --precision and --target add to a "
            "bundle."
        )


def _given(request: Request) -> Iterator[tuple[str, str]]:
    """Give each field of a request that is set, and the option that set it."""
    words = {"tiny_decoder": "--tiny-decoder", "adapters": "--lora", "sizes": "--size"}
    for field in fields(Request):
        if getattr(request, field.name) and field.name != "command":
            yield field.name, words.get(field.name, f"--{field.name}")


def _sweep(out: Path) -> None:
    """Remove what killed runs left beside the bundle; the number in a name is its process's."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        number = left.name.removesuffix(".tmp").rpartition(".")[2]
        if number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


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
