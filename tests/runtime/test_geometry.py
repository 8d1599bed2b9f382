from __future__ import annotations

from fractions import Fraction

import pytest

from animatic.geometry import (
    LatentShape,
    PixelShape,
    format_rate,
    parse_rate,
    to_latent,
    to_pixels,
)
from tests.runtime.fake_model import fake_bundle

GEOMETRY = fake_bundle().geometry


@pytest.mark.parametrize(
    ("pixels", "latent"),
    [
        (PixelShape(9, 8, 16), LatentShape(2, 3, 2, 4)),
        (PixelShape(1, 4, 4), LatentShape(2, 1, 1, 1)),
        (PixelShape(5, 16, 24), LatentShape(2, 2, 4, 6)),
    ],
)
def test_both_ways(pixels: PixelShape, latent: LatentShape) -> None:
    assert to_latent(pixels, GEOMETRY) == latent
    assert to_pixels(latent, GEOMETRY) == pixels


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (PixelShape(8, 8, 16), "frames after the first, 7 is not a multiple of 4"),
        (PixelShape(9, 9, 16), "height 9 is not a multiple of 4"),
        (PixelShape(9, 8, 18), "width 18 is not a multiple of 4"),
        (PixelShape(0, 8, 16), "below 1"),
        (PixelShape(9, 0, 16), "below 1"),
    ],
)
def test_division_is_exact_or_refused(pixels: PixelShape, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        to_latent(pixels, GEOMETRY)


@pytest.mark.parametrize("latent", [LatentShape(3, 3, 2, 4), LatentShape(2, 0, 2, 4)])
def test_latents_of_another_model(latent: LatentShape) -> None:
    with pytest.raises(ValueError, match="not a shape of 2 latent channels"):
        to_pixels(latent, GEOMETRY)


@pytest.mark.parametrize(
    ("text", "rate", "exact"),
    [
        ("8/1", Fraction(8), "8/1"),
        ("24", Fraction(24), "24/1"),
        ("24000/1001", Fraction(24000, 1001), "24000/1001"),
        ("12.5", Fraction(25, 2), "25/2"),
        ("48/2", Fraction(24), "24/1"),
    ],
)
def test_rates_are_exact(text: str, rate: Fraction, exact: str) -> None:
    assert parse_rate(text) == rate
    assert format_rate(rate) == exact
    assert parse_rate(exact) == rate


@pytest.mark.parametrize(
    "text",
    ["", "0", "-24", "24/0", "fast", "nan", "inf", "241", "1e99", "23.9760239760", "9" * 99, "٢٤"],
)
def test_what_is_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_rate(text)
