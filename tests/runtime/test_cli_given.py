"""--image, --continue, --before, --loop and --join, on real graphs and real files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image

from animatic.sinks import read_record
from animatic.sources import open_source
from animatic.store import open_bundle
from tests.runtime.clips import picture, write
from tests.runtime.tiny_windowed import write_windowed_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.runtime.command_line import Result, Run


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_windowed_bundle(tmp_path_factory.mktemp("windowed") / "bundle")


@pytest.fixture
def generate(run: Run, windowed: Path) -> Run:
    def call(*arguments: str) -> Result:
        return run("generate", "A red lorry!", "--bundle", str(windowed), *arguments)

    return call


@pytest.fixture(autouse=True)
def given(tmp_path: Path, run: Run) -> None:  # noqa: ARG001, which goes to that folder
    """A clip, another, and a picture, in the working folder."""
    write(tmp_path / "a.mp4")
    write(tmp_path / "b.webp", count=20)
    Image.fromarray(picture(3)).save(tmp_path / "still.png")


def frames_of(file: str) -> list[np.ndarray]:
    with av.open(file) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


MADE: list[tuple[Sequence[str], int]] = [
    ([], 13),
    (["--seconds", "9.625"], 77),
    (["--image", "0=still.png"], 13),
    (["--image", "0=still.png", "--image", "-1=still.png", "--frames", "29"], 29),
    (["--continue", "a.mp4"], 16),
    (["--continue", "b.webp", "--seconds", "4"], 32),
    (["--continue", "still.png", "--image", "15=still.png"], 16),
    (["--before", "a.mp4"], 13),
    (["--before", "b.webp", "--frames", "45"], 45),
    (["--join", "a.mp4", "b.webp"], 16),
    (["--continue", "a.mp4", "--before", "b.webp", "--frames", "32"], 32),
    (["--loop"], 29),
    (["--loop", "--image", "5=still.png"], 29),
    (["--continue", "a.mp4", "--variants", "2", "--steps", "1"], 16),
]


@pytest.mark.parametrize(("arguments", "frames"), MADE, ids=lambda value: str(value)[:40])
def test_generate(generate: Run, arguments: Sequence[str], frames: int) -> None:
    result = generate(*arguments)
    assert (result.code, result.err) == (0, "")
    files = result.out.split()
    assert len(files) == (2 if "--variants" in arguments else 1)
    for file in files:
        assert len(frames_of(file)) == frames
        assert read_record(Path(file)).frames == frames


@pytest.mark.parametrize("output", ["c.mp4", "c.webp", "c.gif", "c", "c.####.png"])
@pytest.mark.parametrize("kind", [["--continue"], ["--before"]])
def test_our_own_files_are_given_in_turn(
    generate: Run, run: Run, windowed: Path, output: str, kind: list[str]
) -> None:
    assert generate("-o", output, "--seed", "3").code == 0
    result = generate(*kind, output, "-o", "next.mp4")
    assert (result.code, result.out, result.err) == (0, "next.mp4\n", "")
    again = run("reproduce", "next.mp4", "--bundle", str(windowed))
    assert again == (0, "identical: every byte of next.mp4 came out again\n", "")


ALL = ["--image", "3=still.png", "--continue", "a.mp4", "--before", "b.webp"]


@pytest.mark.parametrize(
    "arguments", [ALL, ["--loop", "--image", "-1=still.png"], ["--before", "a.mp4"]]
)
def test_reproduce(run: Run, generate: Run, windowed: Path, arguments: list[str]) -> None:
    generate(*arguments, "-o", "clip.mp4")
    result = run("reproduce", "clip.mp4", "--bundle", str(windowed), "-o", "again.mp4")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("identical: every byte of clip.mp4 came out again\n")
    assert read_record(Path("again.mp4")) == read_record(Path("clip.mp4"))


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.mp4", "a.mp4"),
        ("a.mp4", "link.mp4"),
        ("link.mp4", "a.mp4"),
        ("takes", "takes"),
        ("takes/takes.####.png", "takes"),
        ("takes/takes.1002.png", "takes"),
        ("takes", "takes/takes.%04d.png"),
        ("x_v2.webp", "x.webp"),
    ],
)
def test_what_a_clip_is_made_from_is_never_written_over(
    generate: Run, tmp_path: Path, name: str, output: str
) -> None:
    write(tmp_path / "takes", count=3)
    write(tmp_path / "x_v2.webp", count=3)
    Path("link.mp4").symlink_to("a.mp4")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    variants = ["--variants", "2"] if output.startswith("x") else []
    for arguments in (["--continue", name], ["--image", f"0={name}"]):
        result = generate(*arguments, "-o", output, "--force", *variants)
        assert (result.code, result.out) == (1, "")
        assert "is read for this clip, and " in result.err
        assert result.err.endswith(" would replace it; choose another name.\n")
        after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        assert after == before


def test_a_clip_is_not_held_against_itself(run: Run, generate: Run, windowed: Path) -> None:
    """Written over first, it would always be found identical."""
    generate("--continue", "a.mp4", "-o", "clip.mp4")
    whole = Path("a.mp4").read_bytes()
    for output in ("clip.mp4", "a.mp4"):
        result = run("reproduce", "clip.mp4", "--bundle", str(windowed), "-o", output, "--force")
        assert (result.code, result.out) == (1, "")
        assert f"{output} is read for this clip, and {output} would replace it" in result.err
    assert Path("a.mp4").read_bytes() == whole
    assert run("reproduce", "clip.mp4", "--bundle", str(windowed)).code == 0


def test_reproduce_looks_for_what_was_given(run: Run, generate: Run, windowed: Path) -> None:
    generate(*ALL, "-o", "clip.mp4")
    again = ("reproduce", "clip.mp4", "--bundle", str(windowed))
    Path("kept").mkdir()
    Path("still.png").rename("kept/still.png")
    result = run(*again)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "animatic: still.png, from which clip.mp4 was made, is missing; get it back, or name its "
        "folder with --given.\n"
    )
    for name in ("a.mp4", "b.webp"):
        shutil.copy(name, "kept")
    assert run(*again, "--given", "kept").code == 0
    # Another place to stand in: beside the clip.
    shutil.move("clip.mp4", "kept")
    assert run("reproduce", "kept/clip.mp4", "--bundle", str(windowed)).code == 0
    write(Path("kept/a.mp4"), count=16)
    result = run("reproduce", "kept/clip.mp4", "--bundle", str(windowed), "--given", "kept")
    assert (result.code, result.out) == (1, "")
    assert "kept/a.mp4 is not the file that kept/clip.mp4 was made from (its SHA-256" in result.err
    assert result.err.endswith("get that back, or name its folder with --given.\n")


def test_pictures_that_were_in_no_file(windowed: Path, run: Run) -> None:
    from animatic import Pipeline, Shot
    from animatic.sinks import open_sink

    with Pipeline.open(windowed) as pipeline:
        shot = Shot("a red lorry", images={0: picture(1)})
        record = pipeline.record(shot)
        with open_sink(
            Path("clip.gif"), width=64, height=48, fps=record.rate(), record=record
        ) as sink:
            for frame in pipeline.generate(shot):
                sink.write(frame)
    result = run("reproduce", "clip.gif", "--bundle", str(windowed))
    assert (result.code, result.out) == (1, "")
    assert "pictures that a program handed over, which are in no file; make it again" in result.err


REFUSED: list[tuple[Sequence[str], str, int]] = [
    (["--image", "still.png"], "'still.png' is not a frame and a file such as 0=first.png", 2),
    (["--image", "0="], "'0=' is not a frame and a file", 2),
    (["--image", "0= "], "is not a frame and a file", 2),
    (["--image", "1.5=still.png"], "is not a frame and a file", 2),
    (["--image", "1=a.png", "--image", "1=b.png"], "Two pictures are given for frame 1", 2),
    (["--image", "13=still.png"], "frame 13 of a shot of 13; choose 0 to 12, or count from", 1),
    (["--image", "-14=still.png"], "frame -14 of a shot of 13", 1),
    (["--image", "0=none.png"], "There is no file none.png; check its name", 1),
    (["--image", "0=notes.txt"], "notes.txt is no film or picture that can be read", 1),
    (["--continue", ""], "The name is empty; name a clip", 2),
    (["--continue", "none.mp4"], "There is no file none.mp4; check its name", 1),
    (["--before", "notes.txt"], "notes.txt is no film or picture that can be read", 1),
    (["--before", "none"], "The folder none holds no PNG pictures", 1),
    (["--continue", "a.mp4", "--frames", "13"], "choose any multiple of 16", 1),
    (["--join", "a.mp4"], "Option '--join' requires 2 arguments", 2),
    (["--join", "a.mp4", "b.webp", "--before", "a.mp4"], "leave those out", 2),
    (["--join", "a.mp4", ""], "The name is empty; name a clip", 2),
    (["--loop", "--continue", "a.mp4"], "A loop has no clip before or after it; leave out", 1),
    (["--loop", "--join", "a.mp4", "b.webp"], "A loop has no clip before or after it", 1),
]


@pytest.mark.parametrize(("arguments", "sentence", "code"), REFUSED, ids=lambda v: str(v)[:40])
def test_generate_refuses(
    generate: Run, tmp_path: Path, arguments: Sequence[str], sentence: str, code: int
) -> None:
    Path("notes.txt").write_text("no picture")
    Path("none").mkdir()
    before = sorted(tmp_path.iterdir())
    result = generate(*arguments)
    assert (result.code, result.out) == (code, "")
    assert sentence in result.err
    assert result.err.splitlines()[-1].startswith("animatic: ")
    if code == 1:
        assert result.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_that_takes_words_only(run: Run) -> None:
    shot = ("generate", "A red lorry!", "--bundle", "BUNDLE")
    for arguments in (["--image", "0=still.png"], ["--continue", "a.mp4"], ["--before", "a.mp4"]):
        result = run(*shot, *arguments)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(
            "animatic: The model tiny takes words only; leave the pictures"
        )
    assert "cannot loop; leave the loop out" in run(*shot, "--loop").err


def test_a_file_that_breaks_off_leaves_nothing(generate: Run, tmp_path: Path) -> None:
    """Its header is whole, so that it is only found when it is read."""
    Path("still.png").write_bytes(Path("still.png").read_bytes()[:80])
    before = sorted(tmp_path.iterdir())
    result = generate("--image", "0=still.png")
    assert (result.code, result.out) == (1, "")
    assert "The picture still.png cannot be read" in result.err
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_cut_off_is_said_once(generate: Run) -> None:
    Image.new("RGB", (90, 30)).save("wide.png")
    result = generate("--image", "0=wide.png", "--variants", "2")
    assert result.code == 0
    assert result.err == (
        "animatic: wide.png is 90x30 and the shot 64x48: what stands out is cut off.\n"
    )
    tall = generate("--image", "0=wide.png", "--size", "32x64", "-q", "-o", "tall.gif")
    assert "the shot 32x64: what" in tall.err


def test_the_shape_of_the_clip_is_the_shape_of_the_shot(generate: Run) -> None:
    Image.new("RGB", (1000, 1010)).save("square.png")
    assert generate("--image", "0=square.png", "-o", "square.gif").err == ""
    assert open_source("square.gif").size == (48, 48)
    assert generate("--image", "0=square.png", "-o", "wide.gif", "--size", "64x48").code == 0
    assert open_source("wide.gif").size == (64, 48)
    assert generate("--preview", "-o", "preview.gif", "--continue", "a.mp4").code == 0
    assert open_source("preview.gif").size == (48, 48)


def test_the_picture_is_seen(generate: Run) -> None:
    """The tiny model draws what it was given at the first frame, blurred to its cells."""
    for name, level in [("dark.png", 20), ("light.png", 230)]:
        Image.new("RGB", (64, 48), (level, level, level)).save(name)
        assert generate("--image", f"0={name}", "-o", f"{name}.mp4").code == 0
    dark, light = (frames_of(f"{name}.png.mp4")[0].mean() for name in ("dark", "light"))
    assert light > dark + 30


def test_the_encoder_is_opened_only_for_what_is_given(
    generate: Run, run: Run, windowed: Path, tmp_path: Path
) -> None:
    lame = Path(shutil.copytree(windowed, tmp_path / "lame"))
    (lame / "vae_encoder.onnx").write_bytes(b"")
    shot = ("generate", "A red lorry!", "--bundle", str(lame), "-o")
    assert run(*shot, "words.gif").code == 0
    result = run(*shot, "given.gif", "--continue", "words.gif")
    assert result.code == 1
    assert "vae_encoder.onnx is truncated or changed" in result.err
    assert not Path("given.gif").exists()
    assert generate("-o", "given.gif", "--continue", "words.gif").code == 0


def test_inspect_shows_what_a_model_is_given(run: Run, windowed: Path) -> None:
    shown = [" ".join(line.split()) for line in run("inspect", str(windowed)).out.splitlines()]
    clips = "clips to go on from or lead to; two clips to join; loops"
    for line in (
        "frames 13, 29, and any number of blocks of 16 more, at 8/1 per second",
        "listens to text, key frames, the blocks before",
        "context blocks of 4 latent frames, each seen with 2 before or after it",
        "given pictures for any frames, at most 4 a block; " + clips,
        "in frames float32 [batch, 3, pictures, height, width]",
        "in positions float32 [batch, frames]",
    ):
        assert line in shown
    assert "\ngiven" not in run("inspect", "BUNDLE").out


def test_a_clip_given_through_a_pipe(windowed: Path) -> None:
    command = [sys.executable, "-m", "animatic", "generate", "A red lorry!", "-o", "-"]
    child = subprocess.run(
        [*command, "--bundle", str(windowed), "--continue", "a.mp4"],
        capture_output=True,
        check=True,
    )
    assert len(child.stdout) == 16 * 48 * 64 * 3
    assert child.stderr == b""


def test_python_and_the_command_line_make_the_same(generate: Run, windowed: Path) -> None:
    from animatic import Pipeline, Shot

    generate("--join", "a.mp4", "b.webp", "--image", "2=still.png", "-o", "clip.gif", "--seed", "4")
    shot = Shot(
        "A red lorry!", seed=4, continue_from="a.mp4", before="b.webp", images={2: "still.png"}
    )
    with Pipeline.open(windowed) as pipeline:
        assert pipeline.record(shot) == read_record(Path("clip.gif"))
        clip = pipeline.clip(shot)
    bundle = open_bundle(windowed).bundle
    shown = open_source("clip.gif").first(16, bundle.geometry.fps, (64, 48))
    assert np.abs(clip.astype(int) - shown).mean() < 4  # a GIF has 256 colours a frame
