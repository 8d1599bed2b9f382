"""Every graph of the photoreal families, in miniature, compiled by the real TensorRT-RTX.

In fp16 and in int8, for an RTX 40; what an engine computes in is read from its own layers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from animatic.store import open_bundle
from tests.calibration.photoreal import FAMILIES, calibrated_bundle
from tests.engines.building import build, needs_compiler

if TYPE_CHECKING:
    from animatic_engines.build import Outcome

pytestmark = pytest.mark.slow


class Expected(NamedTuple):
    """Layers by their data types; of gemms in half and single precision only what is said here.

    gemms: in int8. Products that read one tensor become one gemm: q, k and v, and the keys and
    values that all blocks make of the text.
    """

    gemms: int = 0
    convolutions: int = 0
    attentions: int = 0


DENOISERS = {
    kind: Expected(gemms=14, attentions=4)  # all but the ends, which are three
    for kind in FAMILIES
}
DECODERS = {
    ("wan", "vae_decoder"): Expected(convolutions=18),
    ("wan", "tiny_decoder"): Expected(convolutions=33),
    ("causal", "vae_decoder"): Expected(convolutions=18),
    ("ltx", "vae_decoder"): Expected(convolutions=11),  # all but the ends
}
EXPECTED = {**{(kind, "denoiser"): layers for kind, layers in DENOISERS.items()}, **DECODERS}
ALONE = "1 of 1 attentions are not one fused kernel: "
"""Of Wan's VAE, whose attention has one head of all channels."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def root(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle to build into."""
    needs_compiler()
    calibrated = calibrated_bundle(kind, tmp_path_factory)
    return Path(shutil.copytree(calibrated, tmp_path_factory.mktemp("built") / kind))


def built(kind: str, root: Path, precision: str) -> dict[str, Outcome]:
    outcomes = {outcome.entry.role: outcome for outcome in build(root, precision=precision)}
    assert outcomes.keys() == {role for family, role in EXPECTED if family == kind}
    for outcome in outcomes.values():
        assert outcome.entry.precision == precision
    return {str(role): outcome for role, outcome in outcomes.items()}


def test_in_half_precision(kind: str, root: Path) -> None:
    for role, outcome in built(kind, root, "fp16").items():
        layers, expected = outcome.sidecar.layers, EXPECTED[kind, role]
        assert not {"int8"} & (layers.gemms.keys() | layers.convolutions.keys())
        if role == "denoiser":
            assert layers.attentions == {"float16": expected.attentions}
            assert layers.gemms["float16"] == 17
            assert not outcome.sidecar.warnings
        else:
            assert layers.convolutions.keys() == {"float16"}
            assert layers.convolutions["float16"] > expected.convolutions  # some are too narrow


def test_in_8_bits(kind: str, root: Path) -> None:
    for role, outcome in built(kind, root, "int8").items():
        layers, expected = outcome.sidecar.layers, EXPECTED[kind, role]
        # Nothing that the graph quantises is computed in anything wider.
        said = [w for w in outcome.sidecar.warnings if not w.startswith(ALONE)]
        assert not said
        assert layers.gemms.get("int8", 0) == expected.gemms
        assert layers.convolutions.get("int8", 0) == expected.convolutions
        assert layers.attentions == (
            {"float16": expected.attentions} if expected.attentions else {}
        )
    open_bundle(root)
