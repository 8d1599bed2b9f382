from __future__ import annotations

import numpy as np
import pytest

from animatic_calibration.formats import FORMATS
from animatic_calibration.ranges import (
    METHODS,
    choose_range,
    entropy_range,
    max_range,
    mse_range,
    percentile_range,
)
from animatic_calibration.statistics import BINS, Histogram, TensorStatistics

INT8 = FORMATS["int8"]


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part.astype(np.float32))
    return made


def gaussian(count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def test_a_growing_histogram_counts_what_one_made_at_once_does() -> None:
    small, large = gaussian(1000), gaussian(1000) * 5
    grown = histogram(np.array([1.0]), small[np.abs(small) < 1], large)
    assert grown.counts.sum() == 1 + np.sum(np.abs(small) < 1) + 1000
    assert grown.amax == pytest.approx(np.abs(large).max())
    assert grown.amax <= grown.limit <= 2 * grown.amax
    edges = np.arange(BINS + 1) * grown.width
    values = np.abs(np.concatenate([[1.0], small[np.abs(small) < 1], large]).astype(np.float32))
    expected = np.histogram(values, edges)[0]
    # A value on an edge may fall on either side of it by the last bit.
    assert np.abs(np.cumsum(grown.counts) - np.cumsum(expected)).max() <= 2


def test_zeros_are_counted_apart() -> None:
    made = histogram(np.zeros(10), np.array([0.0, 2.0]))
    assert made.zeros == 11
    assert made.counts.sum() == 1


def test_channels_keep_their_own_peaks() -> None:
    statistics = TensorStatistics("x", 1)
    statistics.add(np.array([[[1.0, -3.0], [0.5, 0.0]]]))
    statistics.add(np.array([[[2.0, 0.0], [-0.75, 0.0]]]))
    assert statistics.channel_amax.tolist() == [3.0, 0.75]


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_some_range(method: str) -> None:
    assert choose_range(method, histogram(np.zeros(5)), INT8) == 1.0


def test_max_clips_nothing() -> None:
    assert max_range(histogram(gaussian()), INT8) == pytest.approx(np.abs(gaussian()).max())


def test_percentile_of_an_even_distribution_is_nearly_its_end() -> None:
    made = histogram(np.linspace(0.001, 10, 1_000_000))
    assert percentile_range(made, INT8) == pytest.approx(9.999, abs=0.005)


def test_percentile_is_deaf_to_one_loud_value() -> None:
    quiet = percentile_range(histogram(gaussian()), INT8)
    assert percentile_range(histogram(gaussian(), np.array([1000.0])), INT8) < quiet + 1


def test_mse_clips_a_gaussian_at_about_four_sigma() -> None:
    # The best clipping of a Gaussian for 8 bits is 3.92 sigma (Banner et al., arXiv:1810.05723).
    assert mse_range(histogram(gaussian(2_000_000)), INT8) == pytest.approx(3.92, abs=0.2)


def test_mse_is_the_best_of_its_grid() -> None:
    made = histogram(np.random.default_rng(3).laplace(size=100_000))
    values, counts = made.centres.astype(np.float32), made.counts

    def error(amax: float) -> float:
        return float(counts @ np.square(values - INT8.round_trip(values, INT8.scale(amax))))

    best = mse_range(made, INT8)
    assert all(error(best) <= error(made.amax * part / 100) for part in range(1, 101))


def test_entropy_keeps_an_even_distribution_whole() -> None:
    made = histogram(np.linspace(0.001, 10, 1_000_000))
    assert entropy_range(made, INT8) > 9.9


def test_entropy_clips_a_long_tail() -> None:
    tail = np.concatenate([gaussian(), np.linspace(10, 50, 20)])
    assert entropy_range(histogram(tail), INT8) < 15


def test_entropy_leaves_few_bins_alone() -> None:
    made = histogram(np.array([4.0]), np.full(10, 0.01))
    assert entropy_range(made, INT8) <= 4.0


@pytest.mark.parametrize("name", FORMATS)
def test_formats_hold_their_range_and_no_more(name: str) -> None:
    format_ = FORMATS[name]
    scale = format_.scale(2.0)
    values = np.array([2.0, -2.0, 5.0, 0.0], np.float32)
    assert format_.round_trip(values, scale) == pytest.approx([2.0, -2.0, 2.0, 0.0], rel=1e-3)


def test_int8_never_stores_its_lowest_value() -> None:
    stored = INT8.store(np.array([-9.0, 9.0], np.float32), INT8.scale(1.0))
    assert stored.tolist() == [-127, 127]


def test_a_scale_is_never_zero_nor_infinite() -> None:
    scales = INT8.scale([0.0, 1e-9, 1e9])
    assert scales.dtype == np.float16
    assert (scales > 0).all()
    assert np.isfinite(scales).all()
