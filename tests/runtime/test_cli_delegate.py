"""Commands of other packages, and what is said where they are missing."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints, PackageNotFoundError
from typing import TYPE_CHECKING

import click
import pytest

from animatic.cli import delegate

if TYPE_CHECKING:
    from tests.runtime.command_line import Run


def announce(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    entries = [EntryPoint(name, value, delegate.GROUP) for name, value in values.items()]
    monkeypatch.setattr(delegate, "entry_points", lambda **_: EntryPoints(entries))


def test_delegate_runs_the_announced_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, export="tests.runtime.test_cli_delegate:echo")
    assert run("export", "--loud", "RECIPE").out == "RECIPE!\n"
    assert run("export", "--help").out.startswith("Usage: animatic export ")
    assert run("export").code == 2
    assert "\n  export " in run("--help").out


@click.command()
@click.argument("recipe")
@click.option("--loud", is_flag=True)
def echo(*, recipe: str, loud: bool) -> None:
    click.echo(recipe + "!" * loud)


@click.command()
def needy() -> None:
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


@click.command()
def failing() -> None:
    raise click.ClickException("The checkpoint is older than this; train it again.")


def test_errors_of_the_announced_command_are_ours(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, export="tests.runtime.test_cli_delegate:failing")
    said = "animatic: The checkpoint is older than this; train it again.\n"
    assert run("export") == (1, "", said)
    announce(monkeypatch, export="tests.runtime.test_cli_delegate:echo")
    result = run("export")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: animatic export ")
    assert result.err.endswith("\n\nanimatic: Missing argument 'RECIPE'.\n")


class Installed:
    """An installation of ours, as far as it says where it came from (PEP 610)."""

    def __init__(self, origin: str | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        return self.origin if name == "direct_url.json" else None


@pytest.fixture(autouse=True)
def from_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed(None))


@pytest.mark.parametrize(
    "origin", ['{"url": "file:///a", "dir_info": {"editable": true}}', '{"dir_info": {}}', None]
)
def test_checkout_installs_from_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch, origin: str | None
) -> None:
    def installed(name: str) -> Installed:
        if origin is None:
            raise PackageNotFoundError(name)
        return Installed(origin)

    monkeypatch.setattr("importlib.metadata.distribution", installed)
    announce(monkeypatch, train="tests.runtime.test_cli_delegate:needy")
    assert run("train").err == (
        "animatic: `animatic train` needs torch, which is not installed; "
        "`pip install -e '.[train]' -c constraints.txt` in the checkout brings it.\n"
    )


@pytest.mark.parametrize(
    "value", ["no_such_torch_cli:command", "tests.runtime.test_cli_delegate:needy"]
)
def test_delegate_says_which_extra_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    announce(monkeypatch, train=value)
    if value.startswith("no_such"):
        # The package itself is missing: a broken installation, and not ours to explain away.
        with pytest.raises(ModuleNotFoundError):
            run("train")
        return
    result = run("train")
    assert (result.code, result.out) == (1, "")
    assert (
        "needs torch, which is not installed; `pip install 'animatic[train]'` brings it."
        in result.err
    )


def test_delegate_that_nobody_announced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch)
    result = run("calibrate", "--anything")
    assert (result.code, result.out) == (1, "")
    assert "pip install 'animatic[calibrate]'" in result.err


def test_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, export="tests.runtime.test_cli_delegate:announce")
    with pytest.raises(TypeError):
        run("export")
