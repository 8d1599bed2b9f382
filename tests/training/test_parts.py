from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic_training.parts import PartsError, join_file, split_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(range(250)))
    split_file(path, 100)
    path.unlink()
    return path


def test_parts_become_the_file_again(split: Path) -> None:
    names = sorted(file.name for file in split.parent.iterdir())
    assert names == [f"{split.name}.{end}" for end in ("00", "01", "02", "parts")]
    assert split.with_name(f"{split.name}.00").stat().st_size == 100
    join_file(split)
    assert split.read_bytes() == bytes(range(250))
    other = split.parent / "other"
    join_file(split, other)
    assert other.read_bytes() == bytes(range(250))


def test_a_part_that_is_missing_is_named(split: Path) -> None:
    split.with_name(f"{split.name}.01").unlink()
    with pytest.raises(PartsError, match=r"lacks the parts model\.safetensors\.01: fetch"):
        join_file(split)
    assert not split.exists()


def test_another_files_part_is_found_out(split: Path) -> None:
    split.with_name(f"{split.name}.02").write_bytes(bytes(50))
    with pytest.raises(PartsError, match="not those that were written"):
        join_file(split)
    assert not split.exists()


def test_without_their_list_parts_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(PartsError, match=r"no .*model\.parts: fetch it"):
        join_file(tmp_path / "model")
