from __future__ import annotations

import re
from itertools import chain, combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from animatic.store import shipped_bundle_path
from animatic_training.world import captions, deeds, filming, words
from animatic_training.world.attributes import (
    CLASSES,
    COLOURS,
    INTERIORS,
    NONE,
    RELATIONS,
    SUBJECTS,
    ShotAttributes,
    sample_attributes,
)
from animatic_training.world.captions import write_caption
from tests.training.shots import shot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGISTERS = (
    captions._plain, captions._slug, captions._shorthand, captions._notes, captions._keywords,
    captions._casual,
)  # fmt: skip
TABLES: dict[str, dict[str, words.Forms]] = {
    "time": words.TIMES, "weather": words.WEATHERS, "camera": filming.CAMERAS,
    "size": filming.SIZES, "angle": filming.ANGLES, "lens": filming.LENSES,
}  # fmt: skip
MOST_TOKENS = 64


class Written(NamedTuple):
    attributes: ShotAttributes
    text: str
    held_out_words: bool


@pytest.fixture(scope="module")
def written() -> list[Written]:
    """Captions, of which a third say all, and a third of those held-out words."""
    rng = np.random.default_rng(2)
    some = []
    for number in range(2400):
        attributes, full, held_out_words = sample_attributes(rng), number % 3 == 0, number % 9 == 0
        text = write_caption(attributes, rng, full=full, held_out_words=held_out_words)
        some.append(Written(attributes, text, held_out_words))
    return some


@st.composite
def possible_shots(draw: st.DrawFn) -> ShotAttributes:
    return sample_attributes(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


def every_word() -> Iterator[words.Words]:
    """Yield all the words of all classes."""
    yield from chain(words.SUBJECTS.values(), words.COLOURS.values())
    for place in words.PLACES.values():
        yield from (place.at, place.through, place.tag)
    for forms in chain.from_iterable(table.values() for table in TABLES.values()):
        yield from (forms.phrase, forms.tag)
    for group in (deeds.WAYS, deeds.DEEDS, deeds.TAGS, deeds.NEAR, deeds.WITH, deeds.COURSES):
        yield from group.values()
    yield from (deeds.CHASES, deeds.HOVERS)


def is_said(options: words.Words, text: str) -> bool:
    ways = chain(options.said, options.held_out)
    return any(way.format(it=it).lower() in text.lower() for way in ways for it in ("it", "them"))


def write(
    register: Callable[[captions.Said, np.random.Generator], str],
    attributes: ShotAttributes,
    seed: int,
    *,
    held_out_words: bool = False,
) -> str:
    rng = np.random.default_rng(seed)
    said = captions.say(attributes, rng, full=True, held_out_words=held_out_words)
    return register(said, rng)


def test_every_class_has_words() -> None:
    assert set(words.SUBJECTS) == set(deeds.VERBS) == set(SUBJECTS)
    assert set(words.COLOURS) == set(COLOURS)
    assert set(words.PLACES) == set(CLASSES["place"])
    assert set(deeds.TAGS) == set(deeds.WAYS) | set(deeds.DEEDS) == set(CLASSES["action"])
    assert {*deeds.NEAR, "alone", "chasing"} == set(RELATIONS)
    for kind, table in TABLES.items():
        assert set(table) == set(CLASSES[kind])


def test_every_class_but_the_balloon_has_a_word_that_training_never_says() -> None:
    lacking = {name for name, subject in words.SUBJECTS.items() if not subject.held_out}
    assert lacking == {"balloon"}
    assert all(colour.held_out for colour in words.COLOURS.values())
    assert all(place.at.held_out and place.tag.held_out for place in words.PLACES.values())
    for table in TABLES.values():
        assert all(forms.phrase.held_out and forms.tag.held_out for forms in table.values())
    assert all(entry.held_out for entry in chain(deeds.WAYS.values(), deeds.DEEDS.values()))


def test_training_never_says_what_is_held_out(written: list[Written]) -> None:
    def plain(text: str) -> str:
        return f" {re.sub('[^a-z0-9]+', ' ', text.lower()).strip()} "

    held = {plain(word.format(it="it")) for entry in every_word() for word in entry.held_out}
    said = 0
    for _, text, held_out_words in written:
        spaced = plain(text)
        found = [word for word in held if word in spaced]
        assert held_out_words or not found, text
        said += held_out_words and bool(found)
    assert said > 200  # and what should say them does: the search can find them


def test_no_two_classes_of_an_attribute_share_their_words() -> None:
    tables: list[dict[str, list[words.Words]]] = [
        {name: [entry] for name, entry in group.items()}
        for group in (words.SUBJECTS, words.COLOURS)
    ]
    tables.append({name: [p.at, p.through, p.tag] for name, p in words.PLACES.items()})
    tables += [
        {name: [forms.phrase, forms.tag] for name, forms in table.items()}
        for table in TABLES.values()
    ]
    tables.append(
        {
            name: [group[name] for group in (deeds.WAYS, deeds.DEEDS, deeds.TAGS) if name in group]
            for name in CLASSES["action"]
        }
    )
    for table in tables:
        ways = {
            name: {way.lower() for entry in entries for way in (*entry.said, *entry.held_out)}
            for name, entries in table.items()
        }
        for one, other in combinations(ways, 2):
            assert not ways[one] & ways[other], (one, other)


def test_held_out_words_are_said_when_asked_for() -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        attributes = sample_attributes(rng)
        text = write_caption(attributes, rng, full=True, held_out_words=True).lower()
        for word in chain(
            words.SUBJECTS[attributes.name("subject")].held_out,
            words.COLOURS[attributes.name("colour")].held_out,
        ):
            assert word.lower() in text


@pytest.mark.parametrize("register", REGISTERS)
@settings(deadline=None, max_examples=30)
@given(attributes=possible_shots(), seed=st.integers(0, 2**32 - 1), held_out_words=st.booleans())
def test_a_full_caption_says_all_that_is_not_usual(
    register: Callable[[captions.Said, np.random.Generator], str],
    attributes: ShotAttributes,
    seed: int,
    *,
    held_out_words: bool,
) -> None:
    text = write(register, attributes, seed, held_out_words=held_out_words)
    name = attributes.name
    assert is_said(words.SUBJECTS[name("subject")], text)
    assert is_said(words.COLOURS[name("colour")], text)
    place = words.PLACES[name("place")]
    assert any(is_said(way, text) for way in (place.at, place.through, place.tag))
    for kind, table in TABLES.items():
        forms = table[name(kind)]
        if name(kind) not in {"clear", "eye_level", "normal", "static"}:
            assert is_said(forms.phrase, text) or is_said(forms.tag, text), (kind, text)
    if name("second") != NONE:
        assert is_said(words.SUBJECTS[name("second")], text)
        assert is_said(words.COLOURS[name("second_colour")], text)


def test_captions_read_well(written: list[Written]) -> None:
    for attributes, text, _ in written:
        assert text == text.strip() != ""
        assert not re.search(r"  |[{}]| [,.]|,,|\.\.|,\.", text), text
        assert not re.search(r"\ba [aeio]|\ban [^aeiou]", text.lower()), text
        assert not re.search(r"\b(\w+) \1\b", text.replace("round and round", "")), text
        assert not re.search(r"ing and \w+s\b", text), text
        if match := re.match(r"(INT|EXT)\. ", text):
            assert (match[1] == "INT") == (attributes.name("place") in INTERIORS)


def test_nobody_speaks_of_the_weather_indoors_or_on_the_moon() -> None:
    clear = words.WEATHERS["clear"]
    for place in ("corridor", "moon"):
        for seed in range(100):
            text = write_caption(shot(place=place), np.random.default_rng(seed))
            assert not is_said(clear.phrase, text)


def test_a_caption_fits_what_the_text_encoder_reads(written: list[Written]) -> None:
    tokenizer = Tokenizer.from_file(str(shipped_bundle_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = [text for _, text, _ in written]
    assert max(len(encoding.ids) for encoding in tokenizer.encode_batch(texts)) <= MOST_TOKENS


def test_who_is_the_subject_is_said_first() -> None:
    for relation in ("beside", "behind", "chasing"):
        attributes = shot(action="left", relation=relation, second="dog", second_colour="green")
        for seed in range(60):
            text = write_caption(attributes, np.random.default_rng(seed)).lower()
            first = min(text.find(word) for word in words.SUBJECTS["car"].said if word in text)
            second = min(text.find(word) for word in words.SUBJECTS["dog"].said if word in text)
            assert first < second, text


@pytest.mark.parametrize("register", [captions._shorthand, captions._keywords])
def test_a_label_of_a_deed_stands_with_who_does_it(
    register: Callable[[captions.Said, np.random.Generator], str],
) -> None:
    attributes = shot(action="jump", relation="beside", second="dog", second_colour="green")
    for seed in range(40):
        text = write(register, attributes, seed).lower()
        deed = min(text.find(tag) for tag in deeds.TAGS["jump"].said if tag in text)
        dog = min(text.find(word) for word in words.SUBJECTS["dog"].said if word in text)
        assert deed < dog, text


def test_some_attributes_are_left_unsaid_and_what_is_usual_mostly() -> None:
    rng = np.random.default_rng(0)
    attributes = shot(camera="dolly_in", weather="rain")
    texts = [write_caption(attributes, rng) for _ in range(400)]

    def share(*options: words.Words) -> float:
        return float(np.mean([any(is_said(way, text) for way in options) for text in texts]))

    assert share(words.SUBJECTS["car"]) == 1
    assert 0.85 < share(words.COLOURS["red"]) < 0.98
    for forms in (filming.CAMERAS["dolly_in"], words.WEATHERS["rain"], words.TIMES["day"]):
        assert 0.6 < share(forms.phrase, forms.tag) < 0.98
    assert share(filming.ANGLES["eye_level"].phrase, filming.ANGLES["eye_level"].tag) < 0.25
    assert share(filming.LENSES["normal"].phrase, filming.LENSES["normal"].tag) < 0.2


@pytest.mark.parametrize(
    ("finite", "form"),
    [
        ("drives left", "driving left"), ("hops", "hopping"), ("flies", "flying"),
        ("goes after", "going after"), ("marches", "marching"), ("buzzes", "buzzing"),
        ("rocks from side to side", "rocking from side to side"), ("trots", "trotting"),
        ("zigzags", "zigzagging"), ("weaves left and right", "weaving left and right"),
    ],
)  # fmt: skip
def test_gerunds(finite: str, form: str) -> None:
    assert deeds.gerund(finite) == form


GOLDEN = {
    captions._plain: "a cherry red box truck drives to the left across the sand dunes of a desert "
    "in the golden light of sunset under a clear sky, dolly in, mid shot",
    captions._slug: "EXT. DESERT - GOLDEN HOUR - DRY WEATHER. A cherry red box truck drives to the "
    "left. Dolly in. Mid shot.",
    captions._shorthand: "medium shot, dolly in, cherry red box truck going left, desert, golden "
    "hour, dry weather",
    captions._notes: "In the golden light of sunset under a clear sky, a cherry red box truck "
    "drives to the left across the sand dunes of a desert while the camera moves closer. Framed as "
    "a mid shot.",
    captions._keywords: "cherry red box truck going left desert golden hour dry weather dolly in "
    "mid shot",
    captions._casual: "make me a mid shot of a cherry red box truck driving to the left across the "
    "sand dunes of a desert in the golden light of sunset under a clear sky and the camera moves "
    "closer",
}


@pytest.mark.parametrize(("register", "text"), GOLDEN.items())
def test_captions_stay_as_they_are(
    register: Callable[[captions.Said, np.random.Generator], str], text: str
) -> None:
    """If this fails, the score set's prompts have changed: compare no scores across it."""
    attributes = shot(subject="truck", action="left", camera="dolly_in", time="sunset")
    assert write(register, attributes, 11) == text
