from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import DECODER_ROLES, Bundle, DecoderRole, SamplerSpec, Schedule, Tier
from animatic.errors import OutputError, ShotError
from animatic.geometry import LatentShape
from animatic.record import GenerationRecord
from animatic.shot import MAX_SEED, Shot
from tests.runtime.fake_model import SIGMAS, TINY_DECODER, ZEROS, fake_bundle

replace = msgspec.structs.replace


def test_the_model_chooses_what_is_left_open(bundle: Bundle) -> None:
    plan = Shot("a red cube").plan(bundle)
    assert (plan.width, plan.height, plan.frames) == (16, 8, 9)
    assert plan.fps == Fraction(8)
    assert plan.latent_shape == LatentShape(channels=2, frames=3, rows=2, columns=4)
    assert (plan.prompt, plan.seed, plan.variant) == ("a red cube", 0, 0)
    assert (plan.steps, plan.guidance, plan.negative_prompt) == (4, 1, "")
    assert plan.decoder == "vae_decoder"


def test_everything_chosen(bundle: Bundle) -> None:
    shot = Shot(
        "a red cube",
        seed=MAX_SEED,
        size=(24, 16),
        frames=5,
        fps=Fraction(24000, 1001),
        variant=MAX_SEED,
    )
    plan = shot.plan(bundle)
    assert (plan.width, plan.height, plan.frames) == (24, 16, 5)
    assert plan.fps == Fraction(24000, 1001)
    assert plan.latent_shape == LatentShape(channels=2, frames=2, rows=4, columns=6)
    assert (plan.seed, plan.variant) == (MAX_SEED, MAX_SEED)


def test_size_from_json_is_a_list(bundle: Bundle) -> None:
    shot = Shot("a red cube", size=[24, 16])  # type: ignore[arg-type]
    plan = shot.plan(bundle)
    assert (plan.width, plan.height) == (24, 16)


def test_joiners_within_words_are_kept(bundle: Bundle) -> None:
    assert Shot("👩\u200d🚀 at dawn").plan(bundle).prompt == "👩\u200d🚀 at dawn"


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_numpy_are_seeds(bundle: Bundle, seed: Any) -> None:
    plan = Shot("x", seed=seed, variant=seed).plan(bundle)
    assert (plan.seed, plan.variant) == (3, 3)
    assert type(plan.seed) is int


NTSC = {
    "23.976": 24,
    "23.98": 24,
    "23.976023976": 24,
    "29.97": 30,
    "47.952": 48,
    "59.94": 60,
    "119.88": 120,
    " 29.97003 ": 30,
}


@pytest.mark.parametrize(
    ("given", "fps"),
    [
        (24, Fraction(24)),
        (np.int64(24), Fraction(24)),
        ("24", Fraction(24)),
        ("24.0", Fraction(24)),
        ("12.5", Fraction(25, 2)),
        ("23.97", Fraction(2397, 100)),
        ("24000/1001", Fraction(24000, 1001)),
        *((text, Fraction(whole * 1000, 1001)) for text, whole in NTSC.items()),
    ],
)
def test_rate(bundle: Bundle, given: Any, fps: Fraction) -> None:
    plan = Shot("x", fps=given).plan(bundle)
    assert plan.fps == fps
    assert {type(plan.fps.numerator), type(plan.fps.denominator)} == {int}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "The prompt is empty; say in words"),
    ({"prompt": " \u3000 "}, "The prompt is empty; say in words"),
    ({"prompt": "\u200b\u00ad \u2060\ufeff"}, "The prompt is empty; say in words"),
    ({"prompt": "\u2028\u2029"}, "The prompt is empty; say in words"),
    ({"prompt": None}, r"must be text \(str\), not NoneType; say in words"),
    ({"prompt": b"a cube"}, r"must be text \(str\), not bytes; say in words"),
    ({"prompt": "x" * 2001}, "has 2,001 characters; shorten it to at most 2,000"),
    ({"prompt": "a\0b"}, r"U\+0000\) at place 2; write it as one line of plain text"),
    ({"prompt": "a\nb"}, r"U\+000A\) at place 2; write it as one line of plain text"),
    ({"prompt": "a\u2028b"}, r"U\+2028\) at place 2; write it as one line of plain text"),
    ({"prompt": "a\u2029b"}, r"U\+2029\) at place 2; write it as one line of plain text"),
    ({"prompt": "a\x9bb"}, r"U\+009B\).*; write it as one line of plain text"),
    ({"prompt": "a\ud800"}, r"U\+D800\).*; write it as one line of plain text"),
    ({"seed": -1}, "That seed cannot be used; choose a whole number from 0 to 9223372036854775807"),
    ({"seed": 2**63}, "That seed cannot be used; choose a whole number"),
    ({"seed": 10**5000}, "That seed cannot be used; choose a whole number"),
    ({"seed": 1.0}, "That seed cannot be used; choose a whole number"),
    ({"seed": True}, "That seed cannot be used; choose a whole number"),
    ({"seed": np.True_}, "That seed cannot be used; choose a whole number"),
    ({"seed": np.float64(1)}, "That seed cannot be used; choose a whole number"),
    ({"seed": "1"}, "That seed cannot be used; choose a whole number"),
    ({"variant": -1}, "That variant cannot be used; choose a whole number"),
    ({"size": (8, 16)}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": (0, 0)}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": (16, 8, 1)}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": [8, 16]}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": 16}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": "16x8"}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": [np.zeros(2), np.zeros(2)]}, "does not make that size; choose 16x8 or 24x16"),
    ({"size": np.array([16, 8])}, "does not make that size; choose 16x8 or 24x16"),
    ({"frames": 8}, "does not make that many frames; choose 9 or 5"),
    ({"frames": 13}, "does not make that many frames; choose 9 or 5"),
    ({"frames": -9}, "does not make that many frames; choose 9 or 5"),
    ({"frames": 10**5000}, "does not make that many frames; choose 9 or 5"),
    ({"frames": 9, "seconds": 1}, "either seconds or frames; leave one of them out"),
    ({"seconds": 10}, r"at 8 frames per second; choose 1.125 \(9 frames\) or 0.625 \(5 frames\)"),
    ({"seconds": 0.1}, r"choose 1.125 \(9 frames\) or 0.625 \(5 frames\)"),
    ({"seconds": 1, "fps": Fraction(24)}, r"at 24 frames.*; choose 0.375 \(9 frames\)"),
    ({"seconds": 0}, "length in seconds cannot be used; choose a number above 0"),
    ({"seconds": -1.0}, r"cannot be used; choose a number above 0 and up to 86,400, such as 1.125"),
    ({"seconds": -1.0, "fps": 24}, r"such as 0.375"),
    ({"seconds": float("nan")}, "length in seconds cannot be used; choose a number above 0"),
    ({"seconds": float("inf")}, "length in seconds cannot be used; choose a number above 0"),
    ({"seconds": 10**400}, "length in seconds cannot be used; choose a number above 0"),
    ({"seconds": "1"}, "length in seconds cannot be used; choose a number above 0"),
    ({"fps": Fraction(0)}, "frame rate cannot be used; choose a ratio above 0 and up to 240"),
    ({"fps": Fraction(-24)}, "frame rate cannot be used; choose a ratio above 0"),
    ({"fps": Fraction(241)}, "frame rate cannot be used; choose a ratio above 0"),
    ({"fps": Fraction(23.976)}, "terms up to 1,000,000, such as .*24000, 1001"),
    ({"fps": Fraction(10**5000, 10**5000 - 1)}, "choose a ratio above 0"),
    ({"fps": 0}, "choose a ratio above 0"),
    ({"fps": 10**5000}, "choose a ratio above 0"),
    ({"fps": "fast"}, "choose a ratio above 0"),
    ({"fps": "1000"}, "choose a ratio above 0 and up to 240"),
    ({"fps": 23.976}, r'no exact number; choose .* the text "24000/1001"'),
    ({"fps": 24.0}, r'no exact number; choose .* the text "24000/1001"'),
    ({"fps": True}, r'no exact number; choose .* the text "24000/1001"'),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_refusals_say_what_to_do(bundle: Bundle, changes: dict[str, Any], sentence: str) -> None:
    shot = Shot(**{"prompt": "a red cube", **changes})
    with pytest.raises(ShotError, match=sentence) as caught:
        shot.plan(bundle)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def record(bundle: Bundle, shot: Shot) -> GenerationRecord:
    return GenerationRecord.of(
        shot.plan(bundle), bundle, bundle_sha256=ZEROS, animatic_version="0.1.0"
    )


TIERS = (
    Tier(name="preview", size=fake_bundle().geometry.sizes[1], steps=2, decoder="tiny_decoder"),
    Tier(name="final", size=fake_bundle().geometry.sizes[0]),
)


@pytest.fixture
def guided() -> Bundle:
    """Everything that a shot may choose: steps, guidance, tiers, two decoders."""
    plain = fake_bundle()
    sampler = SamplerSpec(
        kind="unipc",
        sigmas=SIGMAS,
        schedules=(Schedule(sigmas=(1.0, 0.5)), Schedule(sigmas=(1.0,))),
        guidance=5.0,
        negative_prompt="blurred",
    )
    return replace(plain, sampler=sampler, tiers=TIERS, graphs=(*plain.graphs, TINY_DECODER))


def test_what_a_guided_model_chooses(guided: Bundle) -> None:
    plan = Shot("x").plan(guided)
    assert (plan.steps, plan.guidance, plan.negative_prompt) == (4, 5, "blurred")
    assert (plan.width, plan.height, plan.decoder) == (16, 8, "tiny_decoder")


def test_a_tier_settles_size_steps_and_decoder(guided: Bundle) -> None:
    preview = Shot("x", tier="preview").plan(guided)
    assert (preview.width, preview.height) == (24, 16)
    assert (preview.steps, preview.decoder) == (2, "tiny_decoder")
    final = Shot("x", tier="final").plan(guided)
    assert (final.width, final.height, final.steps, final.decoder) == (16, 8, 4, "vae_decoder")


def test_what_is_given_beside_a_tier_wins(guided: Bundle) -> None:
    shot = Shot("x", tier="preview", size=(16, 8), steps=1, decoder="vae_decoder")
    plan = shot.plan(guided)
    assert (plan.width, plan.height, plan.steps, plan.decoder) == (16, 8, 1, "vae_decoder")


@pytest.mark.parametrize("guidance", [1, 1.0, 2.5, np.float32(7), 100])
def test_guidance(guided: Bundle, guidance: Any) -> None:
    steps: Any = np.int64(2)
    plan = Shot("x", guidance=guidance, steps=steps).plan(guided)
    assert plan.guidance == guidance
    assert (type(plan.guidance), type(plan.steps)) == (float, int)
    assert plan.negative_prompt == ("" if guidance == 1 else "blurred")


@pytest.mark.parametrize("blank", ["", "  ", "\u200b", "\u3000\ufeff"])
def test_nothing_in_particular_may_be_led_away_from(guided: Bundle, blank: str) -> None:
    assert Shot("x", negative_prompt=blank).plan(guided).negative_prompt == ""
    assert Shot("x", negative_prompt=blank, guidance=1).plan(guided).negative_prompt == ""


@pytest.mark.parametrize("role", DECODER_ROLES)
def test_a_decoder_may_be_called_as_on_the_command_line(guided: Bundle, role: DecoderRole) -> None:
    short = role.removesuffix("_decoder")
    names: list[Any] = [role, short, np.str_(short)]
    for name in names:
        assert Shot("x", decoder=name).plan(guided).decoder == role


def test_text_of_numpy_is_text(guided: Bundle) -> None:
    prompt, negative = np.str_("a cube"), np.str_("dark")
    plan = Shot(prompt, negative_prompt=negative, tier=np.str_("final")).plan(guided)
    assert (plan.prompt, plan.negative_prompt) == ("a cube", "dark")
    assert {type(plan.prompt), type(plan.negative_prompt)} == {str}


UNGUIDED = "This model runs without guidance; leave it out"
CHOICES_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tier": "draft"}, "no such tier; choose preview or final"),
    ({"tier": ""}, "no such tier; choose preview or final"),
    ({"tier": 7}, "no such tier; choose preview or final"),
    ({"steps": 3}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": 0}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": True}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": 2.0}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": "2"}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": [2]}, "in that many steps; choose 1, 2 or 4"),
    ({"steps": 10**5000}, "in that many steps; choose 1, 2 or 4"),
    (
        {"guidance": 0.5},
        r"guidance cannot be used; choose a number from 1 \(none\) to 100, .* as 5",
    ),
    ({"guidance": 101}, "guidance cannot be used"),
    ({"guidance": 10**400}, "guidance cannot be used"),
    ({"guidance": float("nan")}, "guidance cannot be used"),
    ({"guidance": True}, "guidance cannot be used"),
    ({"guidance": "5"}, "guidance cannot be used"),
    ({"negative_prompt": "x", "guidance": 1}, "leave it out, or ask for guidance of 5"),
    ({"negative_prompt": "a\nb"}, r"negative prompt holds a control .* \(U\+000A\) at place 2"),
    ({"negative_prompt": 7}, "negative prompt must be text .* what is not to be seen"),
    ({"negative_prompt": "x" * 2001}, "negative prompt has 2,001 characters; shorten it"),
    ({"decoder": "vae_encoder"}, "no such decoder; choose vae or tiny"),
    ({"decoder": 7}, "no such decoder; choose vae or tiny"),
    ({"decoder": np.array(["vae", "tiny"])}, "no such decoder; choose vae or tiny"),
    ({"decoder": ["vae"]}, "no such decoder; choose vae or tiny"),
    ({"tier": np.array(["preview", "final"])}, "no such tier; choose preview or final"),
]


@pytest.mark.parametrize(("changes", "sentence"), CHOICES_REFUSED)
def test_refused_choices(guided: Bundle, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShotError, match=sentence):
        Shot(**{"prompt": "x", **changes}).plan(guided)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tier": "preview"}, "has no tiers; leave the tier out"),
        ({"steps": 2}, "in that many steps; choose 4, or leave the steps out"),
        ({"guidance": 5.0}, UNGUIDED),
        ({"guidance": 0}, UNGUIDED),
        ({"guidance": "5"}, UNGUIDED),
        ({"negative_prompt": "x"}, r"negative prompt; leave it out\.$"),
        ({"decoder": "tiny_decoder"}, "no tiny decoder; leave the decoder out"),
    ],
)
def test_choices_that_a_model_does_not_have(
    bundle: Bundle, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ShotError, match=sentence):
        Shot(**{"prompt": "x", **changes}).plan(bundle)


def test_choices_that_a_distilled_model_need_not_be_asked(bundle: Bundle) -> None:
    shot = Shot("x", steps=4, guidance=1, negative_prompt="", decoder="vae_decoder")
    assert shot.plan(bundle) == Shot("x").plan(bundle)


RECORDED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"steps": 4, "guidance": 5, "negative_prompt": "blurred", "decoder": "tiny_decoder"}, {}),
    ({"tier": "preview"}, {"steps": 2}),
    ({"tier": "final"}, {"decoder": "vae_decoder"}),
    ({"guidance": 1}, {"guidance": 1.0}),
    ({"guidance": 3, "negative_prompt": ""}, {"guidance": 3.0, "negative_prompt": ""}),
    ({"negative_prompt": "dark 暗"}, {"negative_prompt": "dark 暗"}),
]


@pytest.mark.parametrize(("changes", "noted"), RECORDED)
def test_a_record_holds_what_is_not_usual(
    guided: Bundle, changes: dict[str, Any], noted: dict[str, Any]
) -> None:
    shot = Shot(**{"prompt": "x", **changes})
    written = record(guided, shot)
    fields = msgspec.json.decode(written.to_json())
    chosen = ("steps", "guidance", "negative_prompt", "decoder")
    assert {name: fields[name] for name in chosen if name in fields} == noted
    again = GenerationRecord.from_json(written.to_json())
    assert again == written
    assert again.shot().plan(guided) == shot.plan(guided)


def test_a_record_of_before_is_the_same_to_the_byte(bundle: Bundle) -> None:
    """As version 0.1.0 wrote it, before there was anything to choose."""
    written = (
        '{"prompt":"a red cube","seed":7,"variant":0,"width":16,"height":8,"frames":9,"fps":"8/1",'
        f'"bundle_name":"tiny","bundle_sha256":"{ZEROS}","animatic_version":"0.1.0"}}'
    )
    assert record(bundle, Shot("a red cube", seed=7)).to_json() == written
    old = GenerationRecord.from_json(written)
    assert old.to_json() == written
    assert old.shot().plan(bundle) == Shot("a red cube", seed=7).plan(bundle)


def test_a_record_of_no_decoder(bundle: Bundle) -> None:
    text = record(bundle, Shot("x")).to_json()[:-1] + ',"decoder":"large"}'
    with pytest.raises(OutputError, match="cannot be read"):
        GenerationRecord.from_json(text)


def test_a_record_makes_the_same_shot_again(bundle: Bundle) -> None:
    shot = Shot("ein rötlicher Würfel 立方体", seed=5, seconds=0.2, fps=Fraction(24), variant=2)
    noted = record(bundle, shot)
    assert noted.shot().plan(bundle) == shot.plan(bundle)
    assert GenerationRecord.from_json(noted.to_json()) == noted
    assert noted.fps == "24/1"
    assert noted.rate() == Fraction(24)


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[1]", b"\xff", '{"prompt": "x"}', "[" * 100_000]
)
def test_what_is_not_a_record(text: str | bytes) -> None:
    with pytest.raises(
        OutputError, match=r"record in that file cannot be read .*; update animatic"
    ):
        GenerationRecord.from_json(text)


def test_a_record_with_a_bad_rate(bundle: Bundle) -> None:
    text = record(bundle, Shot("x")).to_json().replace("8/1", "8/0")
    with pytest.raises(OutputError, match="divides by zero"):
        GenerationRecord.from_json(text)
