from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from animatic_training import arithmetic, renders
from tests.training.toy import InTurn, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animatic_training.config import Config


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 on every processor: tolerances are those of its rounding."""
    monkeypatch.setattr(arithmetic, "_has_units", lambda: False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The toy's configuration."""
    return read_toml(tmp_path)


@pytest.fixture
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pieces drawn in this process, and not by workers."""

    @contextmanager
    def workers(_: int) -> Iterator[InTurn]:
        yield InTurn()

    monkeypatch.setattr(renders, "workers", workers)
