from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from animatic.errors import OutputError
from animatic.record import GenerationRecord
from animatic.sinks import read_record
from tests.runtime.clips import RECORD, write

if TYPE_CHECKING:
    from pathlib import Path

HOLDERS = ["clip.mp4", "clip.mov", "clip.webp", "clip.gif", "takes", "clip.%04d.png"]


def test_json_round_trip() -> None:
    assert GenerationRecord.from_json(RECORD.to_json()) == RECORD


def test_record_gives_the_shot_back() -> None:
    shot = replace(RECORD, fps="24000/1001", variant=3).shot()
    assert (shot.seed, shot.variant, shot.frames, shot.size) == (7, 3, 17, (64, 48))
    assert str(shot.fps) == "24000/1001"


def test_where_the_text_was_read_is_noted_only_where_it_is_not_usual() -> None:
    assert "text_device" not in RECORD.to_json()
    noted = replace(RECORD, text_device="gpu")
    assert '"text_device":"gpu"' in noted.to_json()
    assert GenerationRecord.from_json(noted.to_json()) == noted


@pytest.mark.parametrize("name", HOLDERS)
def test_every_container_gives_it_back(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert read_record(tmp_path / name) == RECORD


@pytest.mark.parametrize("name", HOLDERS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prompt=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=2000))
def test_any_prompt_survives(tmp_path: Path, name: str, prompt: str) -> None:
    write(tmp_path / name, made_from=replace(RECORD, prompt=prompt), count=1)
    assert read_record(tmp_path / name).prompt == prompt


def test_every_frame_of_a_sequence_holds_it(tmp_path: Path) -> None:
    write(tmp_path / "takes")
    for file in (tmp_path / "takes").iterdir():
        assert read_record(file) == RECORD


@pytest.mark.parametrize("name", HOLDERS)
def test_file_without_a_record(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, made_from=None)
    with pytest.raises(OutputError, match=r"holds no Animatic record"):
        read_record(tmp_path / name)


def test_comment_of_somebody_else_is_no_record(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "holiday.gif", comment="Rügen, 2019".encode("latin-1"))
    with pytest.raises(OutputError, match=r"record"):
        read_record(tmp_path / "holiday.gif")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "clip.gif", "clip.1001.png"])
def test_rubbish_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(OutputError, match=r"cannot be read"):
        read_record(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.png", "clip.txt", "folder", "clip.%04d.png"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"There is no"):
        read_record(tmp_path / name)


def test_empty_folder_holds_no_sequence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"There is no PNG sequence"):
        read_record(tmp_path)
