from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from animatic.noise import NoiseStream

if TYPE_CHECKING:
    import numpy.typing as npt

SHAPE = (1, 4, 3, 5, 6)


INITIAL, DECODE, *STEPS = range(-2, 3)


def draw(stream: NoiseStream, block: int, purpose: int) -> npt.NDArray[np.float32]:
    if purpose in STEPS:
        return stream.fresh(block, purpose, SHAPE)
    return stream.initial(block, SHAPE) if purpose == INITIAL else stream.decode(block, SHAPE)


def test_a_seed_means_one_clip_for_ever() -> None:
    """If this fails, every stored seed has lost its clip: do not update the values lightly."""
    stream = NoiseStream(7, 3)
    assert stream.initial(0, (4,)).tolist() == [
        -1.4470674991607666,
        -0.9134206771850586,
        -0.5155606865882874,
        1.8603298664093018,
    ]
    assert stream.fresh(2, 1, (4,)).tolist() == [
        -0.7083366513252258,
        1.5398409366607666,
        0.5377629399299622,
        -0.06655921041965485,
    ]
    assert stream.decode(2, (2,)).tolist() == [0.45603999495506287, -0.5579090118408203]
    largest = NoiseStream(2**63 - 1, 2**63 - 1)
    assert largest.initial(0, (2,)).tolist() == [-0.023468852043151855, -0.19026605784893036]


def test_draws_do_not_depend_on_the_order_of_calls() -> None:
    first, second = NoiseStream(1), NoiseStream(1)
    a, b, c = first.initial(0, SHAPE), first.fresh(0, 0, SHAPE), first.fresh(3, 2, SHAPE)
    second.initial(9, (1000,))
    np.testing.assert_array_equal(second.fresh(3, 2, SHAPE), c)
    np.testing.assert_array_equal(second.fresh(0, 0, SHAPE), b)
    np.testing.assert_array_equal(second.initial(0, SHAPE), a)


def test_no_two_draws_are_alike() -> None:
    draws = [
        draw(NoiseStream(seed, variant), block, purpose).ravel()
        for seed, variant, block, purpose in itertools.product(
            (0, 1, 2), (0, 1, 2), (0, 1, 2), (INITIAL, DECODE, *STEPS)
        )
    ]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert abs(correlation).max() < 0.3  # 360 values: five deviations are 0.26


def test_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    stream = NoiseStream(5)
    np.testing.assert_array_equal(stream.initial(0, (10,)), stream.initial(0, (1000,))[:10])


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_it_is_standard_normal(seed: int) -> None:
    values = NoiseStream(seed).initial(0, (200_000,))
    assert values.dtype == np.float32
    assert values.shape == (200_000,)
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.01
    assert abs(float((values**3).mean())) < 0.03
    assert abs(float((values**4).mean()) - 3) < 0.1
