"""What a shot may be given: how long and how large it is then, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from animatic.bundle import Bundle, Conditioning, Tier
from animatic.errors import InputError, OutputError, ShotError
from animatic.geometry import to_latent, to_pixels
from animatic.record import GenerationRecord, GivenFile
from animatic.shot import Shot
from tests.runtime.clips import write
from tests.runtime.fake_model import ZEROS, fake_bundle
from tests.runtime.windowed_model import GEOMETRY, some_clip, windowed_bundle

if TYPE_CHECKING:
    from animatic.shot import ShotPlan

replace = msgspec.structs.replace
CLIP = some_clip(3)
STILL = CLIP[0]


@pytest.fixture
def bundle() -> Bundle:
    return windowed_bundle()


def frames_of(bundle: Bundle, **changes: Any) -> int:
    return Shot(**{"prompt": "x", **changes}).plan(bundle).frames


def test_how_long_a_shot_is_when_nobody_says(bundle: Bundle) -> None:
    assert frames_of(bundle) == 29
    assert frames_of(bundle, images={0: STILL}) == 29
    assert frames_of(bundle, before=CLIP) == 29
    assert frames_of(bundle, continue_from=CLIP) == 32
    assert frames_of(bundle, continue_from=CLIP, before=CLIP) == 32
    assert frames_of(bundle, loop=True) == 29
    short = replace(bundle, geometry=replace(GEOMETRY, frame_counts=(13,)))
    assert frames_of(short, continue_from=CLIP) == 16
    assert frames_of(short, loop=True) == 29


@given(st.integers(1, 4000), st.sampled_from(["words", "before", "continue", "join", "loop"]))
def test_seconds_are_the_nearest_length_of_their_kind(eighths: int, kind: str) -> None:
    """By trying every length there is."""
    bundle = windowed_bundle()
    kinds: dict[str, tuple[dict[str, Any], list[int]]] = {
        "words": ({}, [5, *range(13, 4100, 16)]),
        "before": ({"before": CLIP}, [5, *range(13, 4100, 16)]),
        "continue": ({"continue_from": CLIP}, list(range(16, 4100, 16))),
        "join": ({"continue_from": CLIP, "before": CLIP}, list(range(16, 4100, 16))),
        "loop": ({"loop": True}, list(range(29, 4100, 16))),
    }
    asked, lengths = kinds[kind]
    plan = Shot("x", seconds=Fraction(eighths, 8), **asked).plan(bundle)
    nearest = min(abs(n - eighths) for n in lengths)
    assert plan.frames == max(n for n in lengths if abs(n - eighths) == nearest)
    assert Shot("x", frames=plan.frames, **asked).plan(bundle).frames == plan.frames
    begins = plan.given.continue_from is None
    pixels = to_pixels(plan.latent_shape, bundle.geometry, begins=begins)
    assert pixels.frames == plan.frames
    assert to_latent(pixels, bundle.geometry, begins=begins) == plan.latent_shape
    assert plan.latent_shape.frames % 4 == 0 or plan.frames == 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 29, "continue_from": CLIP}, "choose any multiple of 16, up to 86,400 seconds"),
        ({"frames": 13, "continue_from": CLIP, "before": CLIP}, "choose any multiple of 16"),
        ({"frames": 0, "continue_from": CLIP}, "choose any multiple of 16"),
        ({"frames": 13, "loop": True}, "choose 29 plus any number of blocks of 16, up to"),
        ({"frames": 32, "loop": True}, "choose 29 plus any number of blocks of 16, up to"),
        ({"frames": 32, "before": CLIP}, "choose 29, 13 or 5, or 13 plus any number of blocks"),
    ],
)
def test_other_lengths(bundle: Bundle, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShotError, match=f"that many frames; {sentence}"):
        Shot(**{"prompt": "x", **changes}).plan(bundle)


def test_a_refusal_says_whose_lengths_are_meant(bundle: Bundle) -> None:
    """The model does make 13 frames, but no loop of them."""
    with pytest.raises(ShotError, match=r"^A loop does not have that many frames; choose 29"):
        Shot("x", frames=13, loop=True).plan(bundle)
    with pytest.raises(ShotError, match=r"^A shot that goes on from a clip does not have"):
        Shot("x", frames=13, continue_from=CLIP).plan(bundle)


def test_a_day_is_the_longest(bundle: Bundle) -> None:
    assert frames_of(bundle, seconds=86_400, continue_from=CLIP) == 691_200
    with pytest.raises(ShotError, match="does not have that many frames"):
        frames_of(bundle, frames=691_216, continue_from=CLIP)


@pytest.mark.parametrize(
    ("given_size", "size"),
    [((64, 32), (16, 8)), ((20, 20), (8, 8)), ((10, 18), (8, 16)), ((30, 12), (16, 8))],
)
def test_the_size_is_that_of_what_is_given(
    bundle: Bundle, given_size: tuple[int, int], size: tuple[int, int]
) -> None:
    clip = some_clip(2, size=given_size)
    kinds: list[dict[str, Any]] = [
        {"images": {3: clip[0]}},
        {"continue_from": clip},
        {"before": clip},
        {"continue_from": clip, "images": {0: some_clip(1, size=(9, 9))}},
    ]
    for asked in kinds:
        plan = Shot("x", **asked).plan(bundle)
        assert (plan.width, plan.height) == size


def test_a_size_that_is_asked_for_wins(bundle: Bundle) -> None:
    tall = some_clip(1, size=(8, 16))[0]
    tiers = (
        Tier(name="preview", size=bundle.geometry.sizes[1]),
        Tier(name="final", size=bundle.geometry.sizes[0]),
    )
    tiered = replace(bundle, tiers=tiers)

    def size(**changes: Any) -> tuple[int, int]:
        plan = Shot("x", images={0: tall}, **changes).plan(tiered)
        return plan.width, plan.height

    assert (size(), size(size=(16, 8)), size(tier="preview")) == ((8, 16), (16, 8), (8, 8))
    # A tier says how large, and what is given, of which shape.
    assert size(tier="final") == (8, 16)


def test_frames_of_pictures_are_counted_from_either_end(bundle: Bundle) -> None:
    images = {-1: STILL, 4: STILL, np.int64(-29): STILL}
    plan = Shot("x", frames=29, images=images).plan(bundle)  # type: ignore[arg-type]
    assert [frame for frame, _ in plan.given.images] == [0, 4, 28]


STILLS = dict.fromkeys(range(1, 6), STILL)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"images": {29: STILL}}, "frame 29 of a shot of 29; choose 0 to 28, or .* -1 to -29"),
    ({"images": {-30: STILL}}, "frame -30 of a shot of 29; choose 0 to 28"),
    ({"images": {28: STILL, -1: STILL}}, "Two pictures are given for frame 28; leave one"),
    ({"images": STILLS}, "5 pictures are given for frames 1 to 5, which are made together; leave"),
    ({"images": [STILL]}, "images are no mapping; give pictures by frame"),
    ({"images": {"0": STILL}}, "a frame that is no whole number; count from 0"),
    ({"images": {True: STILL}}, "a frame that is no whole number; count from 0"),
    ({"images": {1.0: STILL}}, "a frame that is no whole number; count from 0"),
    ({"loop": 1}, "loops is neither True nor False; give one of them"),
    ({"loop": True, "before": CLIP}, "A loop has no clip before or after it; leave out the loop"),
    ({"loop": True, "continue_from": CLIP}, "A loop has no clip before or after it"),
    ({"loop": True, "continue_from": CLIP, "before": CLIP}, "A loop has no clip before or after"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_refusals_say_what_to_do(bundle: Bundle, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ShotError, match=sentence) as caught:
        Shot(**{"prompt": "x", **changes}).plan(bundle)
    assert str(caught.value).endswith(".")


def test_four_stills_of_a_block_and_its_first_frame(bundle: Bundle) -> None:
    images = {0: STILL, **dict.fromkeys((1, 2, 3, 12, 13, 14), STILL)}
    assert len(Shot("x", images=images).plan(bundle).given.images) == 7
    images[4] = STILL
    with pytest.raises(ShotError, match="5 pictures are given for frames 1 to 12"):
        Shot("x", images=images).plan(bundle)


ALL: list[dict[str, Any]] = [
    {"images": {0: STILL}},
    {"continue_from": CLIP},
    {"before": CLIP},
    {"continue_from": CLIP, "before": CLIP},
]


@pytest.mark.parametrize("changes", ALL)
def test_models_that_take_words_only(changes: dict[str, Any]) -> None:
    with pytest.raises(ShotError, match="The model tiny takes words only; leave the pictures"):
        Shot("x", **changes).plan(fake_bundle())


def test_models_that_cannot_do_all_of_it(bundle: Bundle) -> None:
    with pytest.raises(ShotError, match="model tiny cannot loop; leave the loop out"):
        Shot("x", loop=True).plan(fake_bundle())
    alone = replace(
        bundle,
        geometry=replace(GEOMETRY, frame_counts=(13,), context_latent_frames=0),
        conditioning=Conditioning(text=True, keyframes=True, context=False),
    )
    assert frames_of(alone, images={0: STILL, -1: STILL}) == 13
    for changes in ALL[1:]:
        with pytest.raises(ShotError, match="cannot go on from a clip or lead to one; leave the"):
            Shot("x", **changes).plan(alone)
    one = replace(bundle, geometry=replace(GEOMETRY, context_latent_frames=1))
    assert frames_of(one, continue_from=CLIP) == 32
    assert frames_of(one, before=CLIP) == 29
    with pytest.raises(ShotError, match="cannot be led from one clip to another; give one of"):
        Shot("x", **ALL[3]).plan(one)
    with pytest.raises(ShotError, match="cannot loop"):
        Shot("x", loop=True).plan(one)


def test_files_are_looked_for_when_a_shot_is_planned(bundle: Bundle, tmp_path: Path) -> None:
    for changes in ({"images": {0: "no.png"}}, {"before": "no.png"}, {"continue_from": "no.png"}):
        with pytest.raises(InputError, match=r"There is no file no\.png; check its name"):
            Shot("x", **changes).plan(bundle)
    write(tmp_path / "clip.mp4")
    for asked in (tmp_path / "clip.mp4", str(tmp_path / "clip.mp4")):
        plan = Shot("x", continue_from=asked).plan(bundle)
        assert plan.given.continue_from is not None
        assert plan.given.continue_from.size == (64, 48)


def test_shots_can_still_be_told_apart_and_hashed() -> None:
    assert len({Shot("x", images={0: "a.png"}), Shot("x"), Shot("x", loop=True)}) == 3
    assert Shot("x", images={0: "a.png"}) != Shot("x", images={0: "b.png"})


def record(plan: ShotPlan, bundle: Bundle) -> GenerationRecord:
    return GenerationRecord.of(plan, bundle, bundle_sha256=ZEROS, animatic_version="0.1.0")


def test_a_record_holds_names_and_hashes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    write(tmp_path / "clip.mp4")
    write(work / "takes", count=3)
    shot = Shot(
        "x",
        frames=32,
        continue_from=tmp_path / "clip.mp4",
        before=work / "takes",
        images={-1: Path("takes/takes.1002.png"), 0: STILL},
    )
    plan = shot.plan(bundle)
    made = record(plan, bundle)
    assert made.continue_from is not None
    assert made.before is not None
    # Relative to where we are, or bare: no folder of this machine goes into a file.
    assert (made.continue_from.file, made.before.file) == ("clip.mp4", "takes")
    assert [(i.frame, i.file) for i in made.images] == [(0, ""), (31, "takes/takes.1002.png")]
    assert str(tmp_path) not in made.to_json()
    assert len({file.sha256 for file in made.given()}) == 4
    again = GenerationRecord.from_json(made.to_json())
    assert again == made
    found = {
        file: tmp_path / "clip.mp4" if file == made.continue_from else Path(file.file or "takes")
        for file in made.given()
    }
    replanned = again.shot(found).plan(bundle)
    assert replanned.frames == plan.frames
    assert [frame for frame, _ in replanned.given.images] == [0, 31]
    assert again.shot().before == Path("takes")


@pytest.mark.parametrize(
    ("asked", "noted"),
    [
        ("../secret/a.png", "a.png"),
        ("sub/../a.png", "a.png"),
        ("../shoot/a.png", "a.png"),
        ("./sub/a.png", "sub/a.png"),
        ("../sub/../../none/a.png", None),
    ],
)
def test_no_folder_outside_goes_into_a_record(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, noted: str | None
) -> None:
    (shoot := tmp_path / "shoot").mkdir()
    for folder in (shoot, shoot / "sub", tmp_path / "secret", tmp_path / "sub"):
        folder.mkdir(exist_ok=True)
        Image.fromarray(STILL).save(folder / "a.png")
    monkeypatch.chdir(shoot)
    if noted is None:
        with pytest.raises(InputError):
            Shot("x", images={0: asked}).plan(bundle)
        return
    made = record(Shot("x", images={0: asked}).plan(bundle), bundle)
    assert made.images[0].file == noted


def test_a_record_of_words_is_as_it_was(bundle: Bundle) -> None:
    fields = msgspec.json.decode(record(Shot("x").plan(bundle), bundle).to_json())
    assert not {"images", "continue_from", "before", "loop"} & set(fields)
    looped = record(Shot("x", loop=True).plan(bundle), bundle)
    assert GenerationRecord.from_json(looped.to_json()).shot().loop


def test_rubbish_in_a_record_is_refused() -> None:
    good = record(Shot("x").plan(windowed_bundle()), windowed_bundle())
    fields = msgspec.json.decode(good.to_json())
    with pytest.raises(OutputError, match="cannot be read"):
        GenerationRecord.from_json(msgspec.json.encode({**fields, "images": [{"frame": 0}]}))
    assert GivenFile(file="a", sha256=ZEROS).frame is None
