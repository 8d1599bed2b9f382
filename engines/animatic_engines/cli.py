"""`animatic build`: a bundle's graphs compiled for GPUs, which need not be in this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from animatic.targets import Target
    from animatic_engines.build import Outcome, Request

__all__ = ["build_aloud", "command", "find_targets"]

# As animatic_engines.choices has them; that is imported only when something is built.
PRECISIONS = ("fp16", "bf16", "int8", "fp8")
BACKENDS = ("tensorrt_rtx", "tensorrt")


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--target",
    "targets",
    metavar="T[,T…]",
    required=True,
    help="What to build for, as `animatic targets` lists them; auto is the card in this machine.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of the graphs; a role that has none in it takes half precision. Without it, each "
    "target's own default.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What compiles; without it, the first that can do it here.",
)
@click.option(
    "--text",
    is_flag=True,
    help="Also for a text encoder that is costly; without it, that stays on the processor.",
)
@click.option("--force", is_flag=True, help="Build even what is up to date.")
@click.option("-q", "--quiet", is_flag=True, help="Print the bundle's path and nothing else.")
def command(
    *,
    bundle: Path | None,
    targets: str,
    precision: str | None,
    backend: str | None,
    text: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Compile the graphs in the folder BUNDLE for one or more kinds of GPU.

    TensorRT-RTX builds on any machine, with no GPU in it; TensorRT builds where the GPU is. Engines
    lie in the bundle's folder, each with its build log, its layers and a description. What is up to
    date is not built again.
    """
    from animatic.store import shipped_bundle_path
    from animatic_engines.build import Request

    root = shipped_bundle_path() if bundle is None else bundle
    request = Request(find_targets(targets), precision, backend, force, text)
    build_aloud(root, request, quiet=quiet)
    click.echo(root)


def build_aloud(root: Path, request: Request, *, quiet: bool) -> None:
    """Build, and print a line for each engine; `animatic export` ends with the same."""
    from animatic.store import open_bundle
    from animatic_engines.build import build_engines
    from animatic_engines.progress import build_bar

    not_run: dict[str, str] = {}
    with build_bar(quiet=quiet) as bar:
        for outcome in build_engines(
            root, request, on_step=bar.step, on_wait=lambda: _waiting(root)
        ):
            bar.clear()
            if outcome.not_run:
                not_run[outcome.entry.target] = outcome.not_run
            if not quiet:
                click.echo(line_of(outcome))
                for warning in outcome.sidecar.warnings:
                    click.echo(f"animatic: {outcome.entry.file}: {warning}", err=True)
    if not quiet:
        if request.leaves_text_out(open_bundle(root, verify=False).bundle):
            click.echo(
                "animatic: the text encoder is costly and stays on the processor; --text builds an "
                "engine for it.",
                err=True,
            )
        for target, reason in not_run.items():
            click.echo(f"animatic: nothing was run for {target}: {reason}.", err=True)


def find_targets(names: str) -> tuple[Target, ...]:
    """Look up targets by their names, with commas between; "auto" is this machine's."""
    from animatic.detect import chosen_target

    found = [chosen_target(name.strip()) for name in names.split(",") if name.strip()]
    if not found:
        raise click.UsageError("--target names nothing; `animatic targets` lists them.")
    return tuple(found)


def line_of(outcome: Outcome) -> str:
    """One engine on one line: role, precision, target, size, seconds, layers, what was done."""
    entry, sidecar = outcome.entry, outcome.sidecar
    done = "fresh"
    if outcome.built:
        done = f"built, run on {sidecar.ran_on}" if sidecar.ran_on else "built"
    return (
        f"{entry.role:<12} {entry.precision:<4} {entry.target:<8} "
        f"{sidecar.plan_bytes / 2**20:6.1f} MiB {sidecar.seconds:6.1f} s  "
        f"{sidecar.layers.words}; {done}"
    )


def _waiting(root: Path) -> None:
    click.echo(f"animatic: waiting for another program that writes to {root}.", err=True)
