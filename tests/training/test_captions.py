from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatic_training.world import captions
from animatic_training.world.attributes import CLASSES, ShotAttributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Iterable

REGISTERS = ("plain", "slug_line", "shorthand", "notes")

shots = st.builds(
    ShotAttributes, *(st.integers(0, len(classes) - 1) for classes in CLASSES.values())
)
seeds = st.integers(0, 2**32 - 1)


def write(shot: ShotAttributes, seed: int, register: str, *, full: bool) -> str:
    words = captions._Words(shot, np.random.default_rng(seed), full=full)
    text = getattr(words, register)()
    assert isinstance(text, str)
    return text


def is_said(options: Iterable[str], text: str) -> bool:
    return any(option.lower() in text.lower() for option in options)


def words_for(shot: ShotAttributes) -> dict[str, list[str]]:
    """Return every way in which each attribute may be said."""
    place, time, action = shot.name("place"), shot.name("time"), shot.name("action")
    still = [word for pair in captions._STILL for word in pair]
    verbs = captions._VERBS[shot.name("subject")]
    return {
        "subject": list(captions.SUBJECT_WORDS[shot.name("subject")]),
        "colour": list(captions.COLOUR_WORDS[shot.name("colour")]),
        "place": [
            *captions.PLACE_WORDS[place],
            f"EXT. {captions._SLUG_PLACES.get(place, place)}",
        ],
        "time": [*captions.TIME_WORDS[time], *captions._SLUG_TIMES[time]],
        "camera": list(captions.CAMERA_WORDS[shot.name("camera")]),
        "size": list(captions.SIZE_WORDS[shot.name("size")]),
        "action": still
        if action == "still"
        else [f"{verb} {way}" for verb in verbs for way in captions._WAYS[action]],
    }


def test_every_class_has_words() -> None:
    assert set(captions.SUBJECT_WORDS) == set(captions._VERBS) == set(CLASSES["subject"])
    assert set(captions.COLOUR_WORDS) == set(CLASSES["colour"])
    assert set(captions.PLACE_WORDS) == set(CLASSES["place"])
    assert set(captions.TIME_WORDS) == set(captions._SLUG_TIMES) == set(CLASSES["time"])
    assert {"still", *captions._WAYS} == set(CLASSES["action"])
    assert set(captions.CAMERA_WORDS) == set(CLASSES["camera"])
    assert set(captions.SIZE_WORDS) == set(CLASSES["size"])


@pytest.mark.parametrize("register", REGISTERS)
@settings(deadline=None)
@given(shot=shots, seed=seeds)
def test_a_full_caption_says_every_attribute(
    register: str, shot: ShotAttributes, seed: int
) -> None:
    text = write(shot, seed, register, full=True)
    unsaid = [name for name, options in words_for(shot).items() if not is_said(options, text)]
    assert not unsaid, text


@pytest.mark.parametrize("register", REGISTERS)
@settings(deadline=None)
@given(shot=shots, seed=seeds, full=st.booleans())
def test_a_caption_reads_like_a_sentence(
    register: str, shot: ShotAttributes, seed: int, *, full: bool
) -> None:
    text = write(shot, seed, register, full=full)
    assert is_said(captions.SUBJECT_WORDS[shot.name("subject")], text)
    assert text == text.strip()
    assert "  " not in text
    assert not any(mark in text for mark in (" ,", " .", ",,", "..", ",."))
    assert len(text.split()) <= 60
    lower = f" {text.lower()}"
    assert not any(f" a {vowel}" in lower for vowel in "aeio")


@settings(deadline=None)
@given(shot=shots, seed=seeds)
def test_one_seed_writes_one_caption(shot: ShotAttributes, seed: int) -> None:
    first, second = (write_caption(shot, np.random.default_rng(seed)) for _ in range(2))
    assert first == second != ""


def test_all_registers_are_written_and_some_attributes_left_unsaid() -> None:
    shot = ShotAttributes(0, 0, 0, 2, 1, 3, 2)
    rng = np.random.default_rng(0)
    written = [write_caption(shot, rng) for _ in range(400)]
    assert any(text.startswith("EXT. ") for text in written)
    assert any(text.startswith("WS, ") for text in written)
    assert any("Framed as a wide shot" in text for text in written)
    for attribute, options in words_for(shot).items():
        share = np.mean([is_said(options, text) for text in written])
        assert share == 1 if attribute == "subject" else 0.5 < share < 0.98


GOLDEN = {
    "plain": "wide shot of a red truck driving to the left across the sand dunes of a desert "
    "at dusk, the camera pushes in",
    "slug_line": "EXT. DESERT - DUSK. A red truck drives to the left. The camera pushes in. "
    "Wide shot.",
    "shorthand": "WS, red truck, driving to the left, across the sand dunes of a desert, at dusk, "
    "the camera pushes in",
    "notes": "At dusk across the sand dunes of a desert, a red truck drives to the left "
    "while the camera pushes in. Framed as a wide shot.",
}


@pytest.mark.parametrize(("register", "text"), GOLDEN.items())
def test_captions_stay_as_they_are(register: str, text: str) -> None:
    """If this fails, the score set's prompts have changed: compare no scores across it."""
    shot = ShotAttributes(0, 0, 0, 2, 1, 3, 2)
    assert write(shot, 11, register, full=True) == text
