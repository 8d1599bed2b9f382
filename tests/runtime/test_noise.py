from __future__ import annotations

import itertools

import numpy as np
import pytest

from animatic.noise import NoiseStream

SHAPE = (1, 4, 3, 5, 6)


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
    draws = {
        (seed, variant, block, purpose): (
            NoiseStream(seed, variant).initial(block, SHAPE)
            if purpose is None
            else NoiseStream(seed, variant).fresh(block, purpose, SHAPE)
        )
        for seed, variant, block, purpose in itertools.product(
            (0, 1, 2), (0, 1, 2), (0, 1, 2), (None, 0, 1, 2)
        )
    }
    for one, other in itertools.combinations(draws, 2):
        correlation = np.corrcoef(draws[one].ravel(), draws[other].ravel())[0, 1]
        assert abs(correlation) < 0.3, (one, other)  # 360 values: five deviations are 0.26


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
