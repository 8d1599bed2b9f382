"""A clip is rendered again: what is the same, what differs, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import msgspec
import pytest

from animatic.bundle import decode_bundle
from animatic.errors import EngineError
from animatic.sinks import read_record
from animatic.store import write_bundle
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from tests.runtime.command_line import Run


@pytest.mark.parametrize(
    "output", ["clip.mp4", "clip.webp", "clip.gif", "takes", "clip.png", "c.######.png"]
)
def test_reproduce_is_identical(run: Run, tmp_path: Path, output: str) -> None:
    assert run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", output).code == 0
    before = sorted(tmp_path.iterdir())
    result = run("reproduce", output, "--bundle", "BUNDLE")
    assert result == (0, f"identical: every byte of {output} came out again\n", "")
    assert sorted(tmp_path.iterdir()) == before


def test_reproduce_keeps_a_copy_in_another_format(run: Run) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "clip.mp4", "--variants", "2")
    result = run("reproduce", "clip_v2.mp4", "--bundle", "BUNDLE", "-o", "frames")
    assert result.out.splitlines() == [
        "frames",
        "identical: every byte of clip_v2.mp4 came out again",
    ]
    assert read_record(Path("frames")) == read_record(Path("clip_v2.mp4"))


def remux(source: str, target: str, record: str) -> None:
    """The same pictures in another file, with another record."""
    with (
        av.open(source) as before,
        av.open(target, "w", options={"movflags": "use_metadata_tags"}) as after,
    ):
        after.metadata["animatic"] = record
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(before.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                after.mux(packet)


def test_reproduce_tells_pixels_from_bytes(run: Run) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "clip.mp4")
    made_from = read_record(Path("clip.mp4"))
    old = msgspec.structs.replace(made_from, animatic_version="0.0.9")
    remux("clip.mp4", "old.mp4", old.to_json())
    result = run("reproduce", "old.mp4", "--bundle", "BUNDLE")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("identical pixels: old.mp4 shows the same, its bytes differ")
    wrong = msgspec.structs.replace(made_from, seed=5)
    remux("clip.mp4", "wrong.mp4", wrong.to_json())
    result = run("reproduce", "wrong.mp4", "--bundle", "BUNDLE")
    assert (result.code, result.err) == (1, "")
    assert result.out == "different: wrong.mp4 did not come out again on this machine\n"


@pytest.mark.parametrize("output", ["big", "big.png", "big.####.png"])
def test_reproduce_names_the_frame_that_is_wrong(run: Run, output: str) -> None:
    """It is the clip that is not whole, and no fault of this machine."""
    assert run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", output).code == 0
    folder = Path("big") if output == "big" else Path()
    again = ("reproduce", output, "--bundle", "BUNDLE")
    (folder / "big.1010.png").write_bytes((folder / "big.1009.png").read_bytes())
    result = run(*again)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("animatic: big.1010.png is not part of the clip in big")
    assert result.err.endswith("whose frames are 1001 to 1009; move it away.\n")
    (folder / "big.1010.png").unlink()
    for number in (1005, 1001):
        (folder / f"big.{number}.png").unlink()
        result = run(*again)
        assert (result.code, result.out) == (1, "")
        assert f"animatic: Frame {number} is missing (big.{number}.png of the clip" in result.err
        assert "; get it back, or make the clip again with `animatic generate`." in result.err


def test_reproduce_of_one_frame_takes_its_whole_sequence(run: Run) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "c_%06d.png")
    result = run("reproduce", "c_001005.png", "--bundle", "BUNDLE")
    assert result == (0, "identical: every byte of c_001005.png came out again\n", "")
    Path("c_001005.png").rename("lorry.png")
    result = run("reproduce", "lorry.png", "--bundle", "BUNDLE")
    assert (result.code, result.out) == (1, "")
    assert "lorry.png is one picture and no clip of 9 frames; name the folder" in result.err


def test_reproduce_refuses_another_bundle(run: Run, tmp_path: Path) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "clip.mp4")
    other = write_tiny_bundle(tmp_path / "other")
    described = decode_bundle((other / "bundle.json").read_bytes())
    write_bundle(other, msgspec.structs.replace(described, version="2"))
    result = run("reproduce", "clip.mp4", "--bundle", str(other))
    assert (result.code, result.out) == (1, "")
    assert "name the one that made it with --bundle" in result.err


@pytest.mark.parametrize("noted", [None, "gpu"])
def test_reproduce_reads_the_text_where_it_was_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, noted: Literal["gpu"] | None
) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "clip.mp4")
    made_from = read_record(Path("clip.mp4"))
    changed = msgspec.structs.replace(made_from, backend="onnxruntime-cuda", text_device=noted)
    remux("clip.mp4", "gpu.mp4", changed.to_json())
    asked: list[tuple[object, object]] = []

    def open_none(_bundle: object, **options: object) -> None:
        asked.append((options["device"], options["text_device"]))
        raise EngineError("There is no GPU here; find one.")

    monkeypatch.setattr("animatic.pipeline.Pipeline.open", open_none)
    assert run("reproduce", "gpu.mp4", "--bundle", "BUNDLE").err.endswith("find one.\n")
    assert asked == [("onnxruntime-cuda", noted or "auto")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.mp4"], "There is no file nowhere.mp4"),
        (["notes.txt"], "holds no Animatic record"),
    ],
)
def test_reproduce_needs_a_record(run: Run, arguments: list[str], sentence: str) -> None:
    Path("notes.txt").write_text("nothing", "utf-8")
    result = run("reproduce", *arguments, "--bundle", "BUNDLE")
    assert (result.code, result.out) == (1, "")
    assert sentence in result.err
