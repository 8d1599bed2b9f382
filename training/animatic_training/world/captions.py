"""The caption writer: attributes -> what a person would have typed, in several registers.

Plain sentences, slug lines, shot-list shorthand, director's notes, bare keywords and casual
requests. An attribute may be left unsaid (the model must then choose), and what is as usual (clear
weather, eye level, a normal lens, a static camera) is seldom said. The subject always is, and so is
a second subject with its relation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from animatic_training.world.attributes import INTERIORS, WITHOUT_WEATHER
from animatic_training.world.deeds import (
    AIRBORNE,
    CHASES,
    COURSES,
    DEEDS,
    HOVERS,
    NEAR,
    TAGS,
    VERBS,
    WAYS,
    WITH,
    gerund,
)
from animatic_training.world.filming import ANGLES, CAMERAS, LENSES, SIZES
from animatic_training.world.staging import TRAVELS
from animatic_training.world.words import (
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    WEATHERS,
    Forms,
    Words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from animatic_training.world.attributes import ShotAttributes

_SAID: Final = {
    "colour": 0.92, "place": 0.92, "time": 0.9, "action": 0.88, "camera": 0.8, "size": 0.7,
    "weather": 0.88, "angle": 0.85, "lens": 0.8,
}  # fmt: skip
"""How often an attribute is said that is not as usual."""

_USUAL: Final = {
    "static": 0.35, "clear": 0.08, "eye_level": 0.12, "normal": 0.06, "still": 0.6,
}  # fmt: skip
"""How often what is as usual is said."""

_LONG: Final = 8
"""From so many attributes on, of one caption, each is said in as few words as it has."""

_FILLERS: Final = (
    "Keep it simple and readable.", "Hold it for the whole take.", "No cuts.",
    "Let the shot breathe.", "This is all that happens.",
)  # fmt: skip
_ASKS: Final = (
    "show me", "a video of", "give me", "I want to see", "can you make", "let's see", "make me",
)  # fmt: skip


def write_caption(
    attributes: ShotAttributes,
    rng: np.random.Generator,
    *,
    full: bool = False,
    held_out_words: bool = False,
) -> str:
    """Return one caption.

    With `full`, every attribute is said that is not as usual; with `held_out_words`, every class is
    said with a word that training never says, where it has one.
    """
    said = say(attributes, rng, full=full, held_out_words=held_out_words)
    return _REGISTERS[int(rng.choice(len(_REGISTERS), p=_SHARES))](said, rng)


@dataclass(frozen=True)
class Said:
    """The words drawn for one caption; an empty string is an attribute left unsaid."""

    thing: str
    """The subject and its colour, without an article."""
    second: str
    relation: str
    it: str
    """The subject's pronoun."""
    verb: str
    """What it does, in the present tense; of a chase, the verb of the chase itself."""
    way: str
    """Of what chases: how it goes."""
    deed_tag: str
    near: str
    """Where it is with respect to the second subject, such as "behind"."""
    beside_it: str
    """Where the second is, such as "in front of it"."""
    place: str
    place_tag: str
    through: bool
    """Whether the place is said as what the subject goes through."""
    inside: bool
    time: str
    time_tag: str
    weather: str
    weather_tag: str
    camera: str
    """A clause, such as "the camera pans left"."""
    camera_tag: str
    size: str
    size_tag: str
    angle: str
    angle_tag: str
    lens: str
    lens_tag: str

    def subject(self) -> str:
        """Return the subject with its article."""
        return _article(self.thing)

    def around(self) -> tuple[str, str]:
        """Return what of the setting may stand first, and what follows the deed."""
        if self.through:
            return _words(self.time, self.weather), self.place
        return _words(self.time, self.place, self.weather), ""

    def does(self, *, ing: bool = False) -> str:
        """Return what the subject does, with the second subject where there is one."""
        verb = gerund(self.verb) if ing and self.verb else self.verb
        if self.relation == "chasing":
            return _words(verb, _article(self.second), self.way)
        if self.relation:
            return _words(verb, self.near, _article(self.second))
        return verb


def say(
    attributes: ShotAttributes, rng: np.random.Generator, *, full: bool, held_out_words: bool
) -> Said:
    """Draw the words of one caption."""
    name = attributes.name
    kept = {kind: _kept(kind, name(kind), rng, full=full) for kind in _SAID}
    if name("place") in WITHOUT_WEATHER:
        kept["weather"] = False
    relation = "" if name("relation") == "alone" else name("relation")
    brief = sum(kept.values()) + 3 * bool(relation) >= _LONG

    def choose(words: Words) -> str:
        options = words.held_out if held_out_words and words.held_out else words.said
        if brief:
            fewest = min(len(option.split()) for option in options)
            options = tuple(o for o in options if len(o.split()) <= max(fewest, 2))
        return options[int(rng.integers(len(options)))]

    def both(kind: str, forms: Forms) -> tuple[str, str]:
        phrase, tag = choose(forms.phrase), choose(forms.tag)
        return (phrase, tag) if kept[kind] else ("", "")

    colour = choose(COLOURS[name("colour")])
    thing = _words(colour if kept["colour"] else "", choose(SUBJECTS[name("subject")]))
    second = ""
    if relation:
        second = _words(choose(COLOURS[name("second_colour")]), choose(SUBJECTS[name("second")]))
    it = "them" if name("subject") == "person" else "it"
    action = name("action")
    verb, way = _deed(name("subject"), action, choose, rng)
    if relation == "chasing":
        verb, way = choose(CHASES), choose(COURSES[action])
    elif way:
        verb = f"{verb} {way}"
    place = PLACES[name("place")]
    moves = bool(kept["action"] and action in TRAVELS and rng.random() < 0.8)
    where, place_tag = choose(place.through if moves else place.at), choose(place.tag)
    camera, camera_tag = both("camera", CAMERAS[name("camera")])
    time, time_tag = both("time", TIMES[name("time")])
    weather, weather_tag = both("weather", WEATHERS[name("weather")])
    size, size_tag = both("size", SIZES[name("size")])
    angle, angle_tag = both("angle", ANGLES[name("angle")])
    lens, lens_tag = both("lens", LENSES[name("lens")])
    return Said(
        thing=thing,
        second=second,
        relation=relation,
        it=it,
        verb=verb if kept["action"] or relation == "chasing" else "",
        way=way if kept["action"] else "",
        deed_tag=choose(TAGS[action]) if kept["action"] else "",
        near=choose(NEAR[relation]) if relation in NEAR else "",
        beside_it=choose(WITH[relation]).format(it=it) if relation in WITH else "",
        place=where if kept["place"] else "",
        place_tag=place_tag if kept["place"] else "",
        through=moves,
        inside=name("place") in INTERIORS,
        time=time,
        time_tag=time_tag,
        weather=weather,
        weather_tag=weather_tag,
        camera=camera.format(it=it),
        camera_tag=camera_tag,
        size=size,
        size_tag=size_tag,
        angle=angle,
        angle_tag=angle_tag,
        lens=lens,
        lens_tag=lens_tag,
    )


def _kept(kind: str, value: str, rng: np.random.Generator, *, full: bool) -> bool:
    share = _USUAL.get(value, _SAID[kind])
    if full and (value not in _USUAL or value == "still"):
        share = 1.0
    return bool(rng.random() < share)


def _deed(
    subject: str, action: str, choose: Callable[[Words], str], rng: np.random.Generator
) -> tuple[str, str]:
    """Return what a subject does and, if it travels, which way."""
    if action in WAYS:
        verbs = (*VERBS[subject], "moves") if rng.random() < 0.3 else VERBS[subject]
        return choose(Words(verbs)), choose(WAYS[action])
    if action == "still" and subject in AIRBORNE:
        return choose(HOVERS), ""
    return choose(DEEDS[action]), ""


def _plain(said: Said, rng: np.random.Generator) -> str:
    """Return such as "a red truck drives left through a desert at sunset, dolly in"."""
    order = int(rng.integers(4))
    setting = [said.place, said.time, said.weather]
    if order == 0 and said.size:  # "wide shot of a red truck driving left, ..."
        start = _words(said.size, said.angle, "of", said.subject())
        parts = [_words(start, said.does(ing=True), *setting), said.camera_tag, said.lens_tag]
    elif order == 1 and said.camera:  # "the camera pans left as a red truck drives left ..."
        sentence = _words(said.subject(), said.does(ing=not said.verb), *setting)
        joined = f"{said.camera} as {sentence}" if said.verb else f"{sentence}, {said.camera}"
        parts = [joined, said.size, said.angle_tag, said.lens_tag]
    elif order == 2 and (said.place or said.time):  # "at sunset in a desert, a red truck ..."
        around, through = said.around()
        parts = [around, _words(said.subject(), said.does(), through), said.camera_tag]
        parts += [said.size, said.angle_tag, said.lens_tag]
    else:
        doing = said.does(ing=bool(rng.random() < 0.2))
        sentence = _words(said.subject(), doing, *setting)
        if said.beside_it and rng.random() < 0.4:
            deed = _words(said.subject(), said.verb, *setting)
            sentence = f"{deed} with {_article(said.second)} {said.beside_it}"
        camera = said.camera if rng.random() < 0.4 else said.camera_tag
        parts = [sentence, camera, _words(said.size, said.angle), said.lens_tag]
    text = _comma(parts)
    return _sentence(text) if rng.random() < 0.4 else text


def _slug(said: Said, rng: np.random.Generator) -> str:
    """Return such as "EXT. DESERT - SUNSET. A red truck drives left. Dolly in."."""
    slug = f"{'INT' if said.inside else 'EXT'}. {(said.place_tag or 'location').upper()}"
    heads = [slug, said.time_tag.upper()]
    in_head = bool(rng.random() < 0.5)
    if in_head:
        heads.append(said.weather_tag.upper())
    doing = _words(said.subject(), said.does(), "" if in_head else said.weather)
    camera = said.camera if rng.random() < 0.5 else said.camera_tag
    look = _comma([said.size, said.angle_tag, said.lens_tag])
    head = " - ".join(part for part in heads if part)
    return _words(f"{head}.", *(_sentence(part) for part in (doing, camera, look) if part))


def _shorthand(said: Said, rng: np.random.Generator) -> str:
    """Return such as "WS, low angle, dolly in, red truck R-L, desert, dusk, rain"."""
    thing = _pair(said)
    setting = [said.place_tag, said.time_tag, said.weather_tag]
    look = [said.size_tag, said.angle_tag, said.lens_tag]
    if rng.random() < 0.5:
        return _comma([*look, said.camera_tag, thing, *setting])
    return _comma([*look, thing, *setting, said.camera_tag])


def _notes(said: Said, rng: np.random.Generator) -> str:
    """Return two or three sentences, of 25 to 45 words where the shot has that much to say."""
    around, through = said.around()
    doing = _words(said.subject(), said.does(), through)
    if not said.verb:
        doing = f"we see {doing}"
    first = f"{around}, {doing}" if around else doing
    if said.camera and rng.random() < 0.5:
        texts = [f"{first} while {said.camera}"]
    else:
        texts = [first, said.camera]
    if said.size:
        texts.append(_words(f"framed as {_article(said.size)}", said.angle, said.lens))
    elif said.angle or said.lens:
        texts.append(_words("it is filmed", said.angle, said.lens))
    text = " ".join(_sentence(part) for part in texts if part)
    for filler in rng.permutation(len(_FILLERS)).tolist():
        if len(text.split()) >= 24:
            break
        text = f"{text} {_FILLERS[filler]}"
    return text


def _keywords(said: Said, rng: np.random.Generator) -> str:
    """Return such as "red truck desert sunset"."""
    tags = [
        _pair(said),
        said.place_tag,
        said.time_tag,
        said.weather_tag,
        said.camera_tag,
        said.size,
        said.angle_tag,
        said.lens_tag,
    ]
    return _words(*tags) if rng.random() < 0.6 else _comma(tags)


def _casual(said: Said, rng: np.random.Generator) -> str:
    """Return such as "show me a red truck driving left through a desert at sunset"."""
    ask = _ASKS[int(rng.integers(len(_ASKS)))]
    thing = _words(said.subject(), said.does(ing=True), said.place, said.time, said.weather)
    if said.size and rng.random() < 0.6:
        text = f"{ask} {_article(said.size)} of {thing}"
    else:
        text = f"{ask} {thing}" + (f", {said.size}" if said.size else "")
    text = _comma([text, _words(said.angle, said.lens)])
    return f"{text} and {said.camera}" if said.camera else text


_REGISTERS: Final = (_plain, _slug, _shorthand, _notes, _keywords, _casual)
_SHARES: Final = (0.36, 0.14, 0.13, 0.15, 0.12, 0.10)


def _pair(said: Said) -> str:
    """Return who does what without articles, such as "red car chasing white dog R-L"."""
    if said.relation == "chasing":
        return _words(said.thing, gerund(said.verb), said.second, said.deed_tag)
    return _words(said.thing, said.deed_tag, said.near, said.second)


def _article(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _comma(parts: list[str]) -> str:
    return ", ".join(part for part in parts if part)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
