from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.runtime.fake_model import FakeModel, fake_bundle

if TYPE_CHECKING:
    from animatic.bundle import Bundle
    from animatic.pipeline import Pipeline

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
