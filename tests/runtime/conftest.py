from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from animatic.cli import main
from tests.runtime.command_line import Result
from tests.runtime.fake_model import FakeModel, fake_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import Bundle
    from animatic.pipeline import Pipeline
    from tests.runtime.command_line import Run

# A deadline in milliseconds measures whatever else the machine is doing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def bundle() -> Bundle:
    return fake_bundle()


@pytest.fixture
def model() -> FakeModel:
    """What the fake engines of `pipeline` do, and what they were asked."""
    return FakeModel()


@pytest.fixture
def pipeline(model: FakeModel) -> Pipeline:
    return model.pipeline()


@pytest.fixture
def run(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """The command line in an empty working folder; ``BUNDLE`` stands for the tiny bundle."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        code = main([str(tiny_bundle) if word == "BUNDLE" else word for word in arguments])
        return Result(code, *capfd.readouterr())

    return call
