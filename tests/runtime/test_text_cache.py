"""Text states on disk: real files, every way in which they go bad, several processes at once."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import FileRef
from animatic.store import open_bundle
from animatic.text_cache import SWITCH, TextCache, cache_folder, switched_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic.bundle import GraphSpec
    from animatic.store import OpenBundle

replace = msgspec.structs.replace
PROMPT = "INT. VAULT - NIGHT. The heir is the butler."
STATES = np.random.default_rng(0).standard_normal((1, 7, 32), dtype=np.float32)
SIZE = 128 + STATES.nbytes + 32  # NumPy's header, the numbers, the digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "text"


@pytest.fixture
def cache(folder: Path) -> TextCache:
    return TextCache(folder, "an encoder")


@pytest.fixture
def only(folder: Path) -> Callable[[], Path]:
    """The one file that is there."""

    def find() -> Path:
        (path,) = folder.iterdir()
        return path

    return find


def same(states: object) -> bool:
    return isinstance(states, np.ndarray) and np.array_equal(states, STATES)


def test_states_come_back_to_the_bit(cache: TextCache, folder: Path) -> None:
    assert cache.get(PROMPT) is None
    assert not folder.exists()
    cache.put(PROMPT, STATES)
    found = TextCache(folder, "an encoder").get(PROMPT)
    assert found is not None
    assert found.dtype == np.float32
    assert same(found)
    assert cache.get(f"{PROMPT} ") is None
    assert TextCache(folder, "another encoder").get(PROMPT) is None


def test_a_file_is_numpy_s_and_the_prompt_is_nowhere(
    cache: TextCache, folder: Path, only: Callable[[], Path]
) -> None:
    cache.put(PROMPT, STATES)
    path = only()
    assert same(np.load(path))
    assert path.stat().st_size == SIZE
    assert len(path.stem) == 64
    for word in ("VAULT", "NIGHT", "heir", "butler"):
        assert word.encode() not in path.read_bytes()
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_key_is_of_all_that_states_depend_on(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = open_bundle(tiny_bundle)
    encoder = opened.bundle.graph("text_encoder")

    def keys(opened: OpenBundle, encoder: GraphSpec) -> set[Path]:
        TextCache.of(opened, encoder).put(PROMPT, STATES)
        return set(cache_folder().iterdir())

    def with_text(**changes: Any) -> OpenBundle:
        text = replace(opened.bundle.text, **changes)
        return open_as(opened, text)

    def open_as(opened: OpenBundle, text: Any) -> OpenBundle:
        return type(opened)(opened.root, replace(opened.bundle, text=text), opened.digest)

    assert len(keys(opened, encoder)) == 1
    assert len(keys(opened, replace(encoder, file="moved.onnx"))) == 1
    data = (FileRef(file="x.data", sha256="2" * 64),)
    assert len(keys(opened, replace(encoder, sha256="1" * 64))) == 2
    assert len(keys(opened, replace(encoder, external_data=data))) == 3
    assert len(keys(with_text(tokenizer=FileRef(file="t", sha256="3" * 64)), encoder)) == 4
    assert len(keys(with_text(max_tokens=7), encoder)) == 5
    assert len(keys(with_text(pad_to_max=False), encoder)) == 6


def test_the_variable_switches_it_off(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(SWITCH, "0")
    opened = open_bundle(tiny_bundle)
    cache = TextCache.of(opened, opened.bundle.graph("text_encoder"))
    cache.put(PROMPT, STATES)
    assert cache.get(PROMPT) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_whoever_measures_switches_it_off(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, before)
    with switched_off():
        assert os.environ[SWITCH] == "0"
    assert os.environ.get(SWITCH) == before


def whole(content: bytes) -> bytes:
    """Something else than states, with a digest that is right."""
    return content + hashlib.sha256(content).digest()


def numpy_bytes(array: np.ndarray[Any, Any], *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:0],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: data + b"\0",
        lambda data: whole(data[:100]),
    ],
    ids=["cut", "half", "empty", "a bit", "longer", "header"],
)
def test_a_damaged_file_is_a_miss_and_goes(
    cache: TextCache, only: Callable[[], Path], damage: Callable[[bytes], bytes]
) -> None:
    cache.put(PROMPT, STATES)
    path = only()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(PROMPT) is None
    assert not path.exists()
    cache.put(PROMPT, STATES)
    assert same(cache.get(PROMPT))


@pytest.mark.parametrize(
    "content",
    [
        b"not NumPy's",
        numpy_bytes(STATES.astype(np.float64)),
        numpy_bytes(np.array([{}], object), allow_pickle=True),
    ],
    ids=["strange", "float64", "pickle"],
)
def test_what_is_whole_and_not_ours_is_a_miss(
    cache: TextCache, only: Callable[[], Path], content: bytes
) -> None:
    cache.put(PROMPT, STATES)
    only().write_bytes(whole(content))
    assert cache.get(PROMPT) is None


def test_what_is_no_number_is_not_kept(cache: TextCache, folder: Path) -> None:
    cache.put(PROMPT, np.where(STATES > 0, np.float32(np.nan), STATES))
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "animatic")
    (tmp_path / "file").touch()
    cache = TextCache(tmp_path / "file" / "text", "an encoder")
    for _ in range(2):
        assert cache.get(PROMPT) is None
        cache.put(PROMPT, STATES)
    assert len(caplog.records) == 1
    assert "prompts are encoded anew each time" in caplog.records[0].message
    assert PROMPT not in caplog.text


def test_a_full_disk_leaves_nothing(
    cache: TextCache,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "animatic")

    def full(descriptor: int, mode: str) -> io.BufferedWriter:
        class Full(io.FileIO):
            def write(self, _data: Any) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full(descriptor, mode)  # type: ignore[return-value]

    monkeypatch.setattr("animatic.text_cache.os.fdopen", full)
    cache.put(PROMPT, STATES)
    assert list(folder.iterdir()) == []
    assert os.strerror(errno.ENOSPC) in caplog.text


def aged(folder: Path, seconds: float, before: set[Path]) -> Path:
    """Make the file that is new look as if it was used that long ago."""
    (path,) = set(folder.iterdir()) - before
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_what_was_used_longest_ago_makes_room(folder: Path) -> None:
    cache = TextCache(folder, "an encoder", limit=3 * SIZE)
    paths: dict[str, Path] = {}
    for age, prompt in ((30, "one"), (20, "two"), (10, "three")):
        cache.put(prompt, STATES)
        paths[prompt] = aged(folder, age, set(paths.values()))
    assert same(cache.get("one"))  # now the most recently used
    cache.put("four", STATES)
    assert [cache.get(prompt) is None for prompt in ("one", "two", "three", "four")] == [
        *(False, True, False, False)
    ]
    assert sum(path.stat().st_size for path in folder.iterdir()) == 3 * SIZE


def test_what_alone_is_too_large_is_not_kept(folder: Path) -> None:
    TextCache(folder, "an encoder", limit=SIZE).put("fits", STATES)
    TextCache(folder, "an encoder", limit=SIZE - 1).put(PROMPT, STATES)
    assert len(list(folder.iterdir())) == 1


def test_what_a_killed_process_left_is_swept_and_others_files_stay(
    cache: TextCache, folder: Path
) -> None:
    folder.mkdir(parents=True)
    old, new, foreign = folder / ".a.tmp", folder / ".b.tmp", folder / "notes.txt"
    for path in (old, new, foreign):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    cache.put(PROMPT, STATES)
    assert [path.exists() for path in (old, new, foreign)] == [False, True, True]


def test_a_reader_never_sees_half_a_file(
    cache: TextCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    replaced = Path.replace

    def watched(source: Path, target: Path) -> Path:
        seen.append(cache.get(PROMPT))
        return replaced(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    cache.put(PROMPT, STATES)
    assert seen == [None]
    assert tempfile.gettempdir() not in {str(path.parent) for path in folder.iterdir()}


def test_several_processes_at_once(folder: Path) -> None:
    """Each writes, reads and evicts in a folder that holds three of the five prompts."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from animatic.text_cache import TextCache\n"
        f"cache = TextCache(pathlib.Path({str(folder)!r}), 'x', limit=3 * {SIZE})\n"
        "states = np.arange(224, dtype=np.float32).reshape(1, 7, 32)\n"
        "for turn in range(50):\n"
        "    mine = states + turn % 5\n"
        "    found = cache.get(str(turn % 5))\n"
        "    assert found is None or np.array_equal(found, mine), turn\n"
        "    cache.put(str(turn % 5), mine)\n"
        "assert not cache._told\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [child.communicate()[1] for child in children] == [b""] * 3
    assert not list(folder.glob(".*"))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3 * SIZE
