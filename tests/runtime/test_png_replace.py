"""PNG sequences beside, and in place of, what was there before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from animatic.errors import OutputError
from animatic.sinks import read_record
from animatic.sinks.numbering import Numbering, sequence
from tests.runtime.clips import COUNT, RECORD, contents, frames, sink_for, write

PATTERN = "clip.%04d.png"


@pytest.mark.parametrize("taken", ["clip.1002.png", "clip.0007.png", "clip.123456.png"])
def test_any_number_is_occupied(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"a painting")
    with pytest.raises(OutputError, match=r"already exists"):
        write(tmp_path / PATTERN, overwrite=False)
    assert contents(tmp_path) == {taken: b"a painting"}


def test_frame_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def late() -> None:
        with sink_for(tmp_path / PATTERN, overwrite=False) as sink:
            for frame in frames():
                sink.write(frame)
            (tmp_path / "clip.1004.png").write_bytes(b"a painting")

    with pytest.raises(OutputError, match=r"already exists"):
        late()
    assert contents(tmp_path) == {"clip.1004.png": b"a painting"}


def test_occupied_takes_the_pattern_at_its_word(tmp_path: Path) -> None:
    for name in ("a.b.1001.png", "axb.1001.png", "a.b.1.png", "a.b.1001.png.txt", "50%.1001.png"):
        (tmp_path / name).touch()
    assert names(tmp_path / "a.b.png") == names(tmp_path / "a.b.####.png") == ["a.b.1001.png"]
    assert names(tmp_path / "50%%.%04d.png") == ["50%.1001.png"]
    assert names(tmp_path / "nowhere" / "a.png") == []
    assert sequence(tmp_path / "a.b.%04d.png") == [tmp_path / "a.b.1001.png"]


def names(pattern: Path) -> list[str]:
    return [file.name for file in Numbering.asked(pattern).occupied()]


def test_every_other_frame_of_ours_goes(tmp_path: Path) -> None:
    write(tmp_path / PATTERN, count=9)
    for number in (1004, 1008):  # gaps: what follows them is no less of ours
        (tmp_path / f"clip.{number}.png").unlink()
    (tmp_path / "clip.1010.png").write_bytes(b"a painting")
    write(tmp_path / PATTERN, count=2)
    assert sorted(contents(tmp_path)) == ["clip.1001.png", "clip.1002.png", "clip.1010.png"]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("clip.####.png", "clip.1001.png"),
        ("clip_######.png", "clip_001001.png"),
        ("clip.##.png", "clip.1001.png"),
        ("50%%.#####.png", "50%.01001.png"),
    ],
)
def test_hashes_are_digits(tmp_path: Path, name: str, first: str) -> None:
    for seed in (1, 2):
        write(tmp_path / name, made_from=replace(RECORD, seed=seed), count=2)
    assert len(contents(tmp_path)) == 2
    assert read_record(tmp_path / name).seed == read_record(tmp_path / first).seed == 2
    assert [sequence(tmp_path / part)[0].name for part in (name, first)] == [first, first]


@pytest.mark.parametrize("name", ["a##.####.png", "a.%04d.##.png", "50%.####.png"])
def test_one_place_is_enough(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"exactly one place such as %04d or ####"):
        write(tmp_path / name)


def test_folder_among_the_frames_stops_everything(tmp_path: Path) -> None:
    write(tmp_path / PATTERN, count=9)
    (tmp_path / "clip.1005.png").unlink()
    (tmp_path / "clip.1005.png").mkdir()
    (tmp_path / "clip.1005.png" / "thesis.txt").write_bytes(b"years of work")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"clip\.1005\.png is a folder; move it away"):
        write(tmp_path / PATTERN, made_from=replace(RECORD, seed=2))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("after", range(0, 9 + 5, 3))
def test_failed_replacement_leaves_the_old_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[BaseException],
    after: int,
) -> None:
    write(tmp_path / PATTERN, count=9)
    before = contents(tmp_path)
    real, moves = Path.replace, 0

    def fail(source: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == after + 1:
            raise failure
        return real(source, target)

    def again() -> None:
        with sink_for(tmp_path / PATTERN, made_from=replace(RECORD, seed=2)) as sink:
            for frame in frames(5):
                sink.write(frame)
            monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(OutputError if failure is OSError else failure):
        again()
    assert contents(tmp_path) == before
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("foreign", "recorded"),
    [
        ("takes.1018.png", False),
        ("takes.2001.png", False),
        ("holiday.1001.png", True),
        ("zebra.1001.png", True),
        ("zebra.1001.png", False),
    ],
)
def test_pictures_among_ours_are_left_alone(
    tmp_path: Path, foreign: str, *, recorded: bool
) -> None:
    write(tmp_path / "takes")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "p.png", made_from=RECORD if recorded else None)
    (tmp_path / "other" / "p.1001.png").rename(tmp_path / "takes" / foreign)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"holds other files"):
        write(tmp_path / "takes")
    assert contents(tmp_path) == before


def test_stale_frame_without_a_record_is_not_ours(tmp_path: Path) -> None:
    write(tmp_path / PATTERN, count=5)
    (tmp_path / "clip.1005.png").write_bytes(b"a painting, in a format that nobody reads")
    write(tmp_path / "other.png", made_from=None, count=1)
    (tmp_path / "other.1001.png").rename(tmp_path / "clip.1004.png")
    write(tmp_path / PATTERN, count=2)
    assert sorted(contents(tmp_path)) == [f"clip.100{n}.png" for n in (1, 2, 4, 5)]


@pytest.mark.parametrize("filled", [True, False])
def test_hidden_files_do_not_count_and_are_kept(tmp_path: Path, *, filled: bool) -> None:
    if filled:
        write(tmp_path / "takes")
    else:
        (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / ".DS_Store").write_bytes(b"where the icons are")
    (tmp_path / "takes" / "._takes.1001.png").write_bytes(b"a Mac's notes")
    write(tmp_path / "takes", made_from=replace(RECORD, seed=2))
    assert read_record(tmp_path / "takes").seed == 2
    assert contents(tmp_path)["takes/.DS_Store"] == b"where the icons are"
    assert len(contents(tmp_path)) == COUNT + 2
    assert os.listdir(tmp_path) == ["takes"]  # noqa: PTH208, hidden ones too


@pytest.mark.parametrize("name", ["%04d", "50%", "####", "takes ## of 2"])
def test_per_cent_sign_in_a_folder_is_no_placeholder(tmp_path: Path, name: str) -> None:
    for seed in (1, 2):
        write(tmp_path / name, made_from=replace(RECORD, seed=seed))
    assert read_record(tmp_path / name).seed == 2
