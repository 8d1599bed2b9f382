"""``animatic targets``: the GPUs that engines can be built for, and which one this machine is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from animatic.targets import BackendName, Target

__all__ = ["command"]

HEADINGS: Final = ("target", "SM", "GiB", "precisions", "engines by", "cards")


@click.command("targets", short_help="List the GPUs that engines can be built for.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The same, on one line of JSON.")
def command(*, name: str | None, as_json: bool) -> None:
    """List the GPUs that engines can be built for, or all that is known of the target NAME.

    GiB is the memory of a family's smallest card; the default precision has a star; the builders
    of engines come in order of preference. Below: the backends that are installed here, and which
    target this machine is.
    """
    from animatic.backends import installed_backends
    from animatic.targets import find_target, load_targets

    targets = tuple(load_targets().values()) if name is None else (find_target(name),)
    backends = installed_backends()
    if as_json:
        click.echo(json.dumps(_document(targets, backends), ensure_ascii=False))
        return
    for line in _table(targets) if name is None else _card(targets[0]):
        click.echo(line)
    click.echo()
    for label, text in _here(backends):
        click.echo(f"{label:<15} {text}")


def _document(
    targets: tuple[Target, ...], backends: Mapping[BackendName, str | None]
) -> dict[str, object]:
    import msgspec

    from animatic.detect import detect_target
    from animatic.errors import TargetError

    document: dict[str, object] = {
        "targets": msgspec.to_builtins(targets),
        "installed": dict(backends),
    }
    try:
        machine = msgspec.to_builtins(detect_target())
    except TargetError as error:
        return {**document, "machine": None, "why": str(error)}
    machine["target"] = machine["target"]["name"]
    return {**document, "machine": machine, "why": None}


def _table(targets: tuple[Target, ...]) -> Iterator[str]:
    rows = [HEADINGS]
    for target in targets:
        builders = (b.name for b in target.backends if not b.name.startswith("onnxruntime"))
        rows.append(
            (
                target.name,
                _capability(target),
                f"{target.memory_gib:g}",
                " ".join(_starred(target)),
                " ".join(dict.fromkeys(builders)) or "-",
                target.title,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _card(target: Target) -> Iterator[str]:
    facts = {
        "target": target.name,
        "cards": target.title,
        "SM": _capability(target),
        "memory": f"{target.memory_gib:g} GiB at least",
        "precisions": " ".join(_starred(target)),
        "backends": " ".join(backend.words for backend in target.backends),
        "note": target.note,
    }
    for label, text in facts.items():
        yield f"{label:<15} {text}"


def _here(backends: Mapping[BackendName, str | None]) -> Iterator[tuple[str, str]]:
    from animatic.detect import detect_target
    from animatic.errors import TargetError

    has = [f"{name} {version}" for name, version in backends.items() if version is not None]
    lacks = [name for name, version in backends.items() if version is None]
    yield "installed here", ", ".join(has) or "no backend"
    if lacks:
        yield "not installed", ", ".join(lacks)
    try:
        found = detect_target()
    except TargetError as error:
        yield "this machine", str(error)
        return
    facts = [found.device, f"{found.memory_gib:g} GiB", found.driver, found.note]
    yield "this machine", f"{found.target.name} ({', '.join(filter(None, facts))})"


def _capability(target: Target) -> str:
    capability = target.compute_capability
    return "-" if capability is None else ".".join(map(str, capability))


def _starred(target: Target) -> Iterator[str]:
    for precision in target.precisions:
        yield f"{precision}*" if precision == target.default_precision else precision
