from __future__ import annotations

from typing import Any

import pytest

from tests.export.ltx import published


@pytest.fixture(scope="session")
def transformer() -> Any:
    """A tiny LTXVideoTransformer3DModel of diffusers. Not to be written to."""
    return published.transformer()


@pytest.fixture(scope="session")
def vae() -> Any:
    """A tiny AutoencoderKLLTXVideo of diffusers. Not to be written to."""
    return published.vae()
