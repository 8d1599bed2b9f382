from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic_calibration.errors import CalibrationError
from animatic_calibration.prompts import built_in_prompts, read_prompts, split_prompts

if TYPE_CHECKING:
    from pathlib import Path


def test_no_built_in_prompt_is_of_the_score_set() -> None:
    pytest.importorskip("torch", reason="the score set is written by training, which needs torch")
    from animatic_training.prompts import score_prompts

    assert not set(built_in_prompts()) & {prompt.text for prompt in score_prompts(500)}


def test_the_built_in_prompts_cover_the_vocabulary() -> None:
    pytest.importorskip("numba", reason="the world is part of training")
    from animatic_training.world import words

    text = "\n".join(built_in_prompts()).lower()
    # The built-in model's: its vocabulary is the beginning of the world's.
    for known in (*list(words.SUBJECTS.values())[:8], *list(words.COLOURS.values())[:8]):
        assert any(word in text for word in known.said), known


def test_calibration_and_measurement_share_no_prompt() -> None:
    split = split_prompts(built_in_prompts(), 48)
    assert len(split.calibration) == 48
    assert len(split.held) == 16
    assert not set(split.calibration) & set(split.held)


def test_few_prompts_are_spread_over_the_list() -> None:
    split = split_prompts(tuple(map(str, range(16))), 3)
    assert split.calibration == ("0", "5", "10")
    assert split.held == ("3", "7", "11", "15")


@pytest.mark.parametrize(("lines", "count"), [(3, 1), (8, 7), (8, 0)])
def test_too_few_prompts_are_refused(lines: int, count: int) -> None:
    with pytest.raises(CalibrationError, match="give a --prompts in that range"):
        split_prompts(tuple(map(str, range(lines))), count)


def test_a_file_of_prompts_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a red car\n\n  a blue boat  \n", "utf-8")
    assert read_prompts(tmp_path / "mine.txt") == ("a red car", "a blue boat")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"missing\.txt cannot be read"):
        read_prompts(tmp_path / "missing.txt")
