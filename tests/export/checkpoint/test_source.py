"""The real huggingface_hub, over a cache on this disk and a stand-in for the hub on localhost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import huggingface_hub
import pytest
from huggingface_hub import constants

from animatic_export.checkpoint.source import HubReference, hub_reference, locate
from animatic_export.errors import MissingCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
FILES = {
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    "LICENSE.txt": b"the licence",
    "ltx-video-2b-v0.9.5.license.txt": b"another",
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model.safetensors": b"weights",
    "text_encoder/model.safetensors": b"large",
}
WANTED = ("transformer/*.safetensors", "transformer/config.json")


def fill_cache(cache: Path, files: dict[str, bytes] = FILES, *, listed: bool = False) -> Path:
    """Lay out a repository as huggingface_hub keeps it: blobs, refs, snapshots of links."""
    root = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    for number, (name, data) in enumerate(files.items()):
        blob = root / "blobs" / f"{number:064x}"
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if listed:
        (root / "trees").mkdir()
        listing = {name: {"size": len(data), "blob_id": "0" * 40} for name, data in FILES.items()}
        (root / "trees" / f"{COMMIT}.json").write_text(
            json.dumps({"format_version": 1, "files": listing})
        )
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; the hub itself is switched off."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


REFUSALS = {
    "gated": (403, "GatedRepo"),
    "private": (401, "RepoNotFound"),
    "norevision": (404, "RevisionNotFound"),
    "broken": (418, ""),
}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: refuses by what a repository is called, and has `REPOSITORY`."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        listing = [
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            for name, data in FILES.items()
        ]
        if path == f"/api/models/{REPOSITORY}/revision/main":
            self.answer(200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            self.answer(200, json.dumps(listing).encode())
        elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
            self.answer(200, FILES[path.partition(f"/{COMMIT}/")[2]])
        else:
            status, code = REFUSALS[path.split("/")[4]]
            self.answer(status, b"", code)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, data: bytes, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub on localhost."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        switch_on(monkeypatch, server.server_port)
        yield cache
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


def switch_on(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    endpoint = f"http://127.0.0.1:{port}"
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    huggingface_hub.close_session()


def refusal(reference: str | Path, wanted: tuple[str, ...] = ("*",)) -> str:
    with pytest.raises(MissingCheckpointError) as caught:
        locate(reference, wanted)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REPOSITORY, HubReference(REPOSITORY, None, None)),
        ("a/b@v1.0", HubReference("a/b", "v1.0", None)),
        ("a/b@refs/pr/3", HubReference("a/b", "refs/pr/3", None)),
        ("a/b:c/d.pt", HubReference("a/b", None, "c/d.pt")),
        ("a/b@main:c d.pt", HubReference("a/b", "main", "c d.pt")),
    ],
)
def test_an_id_is_owner_and_name_and_may_have_more(text: str, expected: HubReference) -> None:
    assert hub_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "blockout.safetensors",
        "/a/b",
        "./a/b",
        "../b",
        "~/a",
        "a/b/c",
        "a/",
        r"C:\models\wan",
        "C:/models",
        "a/b:",
        "a/b@",
        "a/b:../../c",
        "a/b:c:d",
        "-a/b",
        "x" * 5000,
        "~nobody-here/a",
        "a\0b",
        "https://huggingface.co/a/b",
    ],
)
def test_anything_else_is_a_path(text: str) -> None:
    assert hub_reference(text) is None
    assert "There is no file or folder" in refusal(text)


def test_what_is_here_goes_before_the_hub(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(cache)
    monkeypatch.chdir(tmp_path)
    folder = Path(REPOSITORY)
    folder.mkdir(parents=True)
    (folder / "w.safetensors").touch()
    assert locate(REPOSITORY) == folder
    assert locate(str(folder / "w.safetensors"), ("ignored of a file",)) == folder / "w.safetensors"
    assert locate(folder.absolute()) == folder.absolute()


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.safetensors").touch()
    assert locate("~/w.safetensors") == tmp_path / "w.safetensors"


def test_a_folder_that_lacks_what_is_wanted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "w.safetensors").touch()
    assert locate(tmp_path, ("transformer/*.safetensors",)) == tmp_path
    assert f"{tmp_path} holds no vae/*.safetensors" in refusal(tmp_path, ("vae/*.safetensors",))


@pytest.mark.parametrize("listed", [True, False])
def test_a_cached_repository_is_found_offline(cache: Path, *, listed: bool) -> None:
    snapshot = fill_cache(cache, listed=listed)
    assert locate(REPOSITORY, WANTED) == snapshot
    assert locate(f"{REPOSITORY}@{COMMIT}", WANTED) == snapshot
    weights = snapshot / "transformer" / "diffusion_pytorch_model.safetensors"
    assert locate(f"{REPOSITORY}:{weights.relative_to(snapshot)}") == weights
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_not_wanted_need_not_be_cached(cache: Path, *, listed: bool) -> None:
    files = {name: data for name, data in FILES.items() if "text_encoder" not in name}
    snapshot = fill_cache(cache, files, listed=listed)
    assert locate(REPOSITORY, WANTED) == snapshot
    for message in (
        refusal(REPOSITORY, ("text_encoder/*",)),
        refusal(f"{REPOSITORY}:text_encoder/model.safetensors"),
    ):
        assert ("not all of it" if listed else "text_encoder/") in message


def test_an_environment_variable_keeps_it_offline(tmp_path: Path) -> None:
    snapshot = fill_cache(tmp_path)
    script = (
        "import sys; from animatic_export.checkpoint.source import locate; "
        "print(locate(sys.argv[1], ('transformer/*',)))"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, REPOSITORY],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(snapshot)


def test_what_is_not_cached_says_so_offline(cache: Path) -> None:
    for reference in (REPOSITORY, f"{REPOSITORY}@v2", f"{REPOSITORY}:a.safetensors"):
        message = refusal(reference)
        assert f"{REPOSITORY} is not in the cache" in message
        assert "HF_HUB_OFFLINE" in message
    assert not cache.exists()


def test_a_hub_that_does_not_answer_leaves_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port of localhost at which nobody listens, as when a laptop is in a train."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        port = server.server_port
    switch_on(monkeypatch, port)
    assert "is not in the cache" in refusal(REPOSITORY)
    snapshot = fill_cache(cache)
    assert locate(REPOSITORY, WANTED) == snapshot
    huggingface_hub.close_session()


def test_a_proxy_that_does_not_answer_leaves_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        port = server.server_port
    switch_on(monkeypatch, port)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    snapshot = fill_cache(cache)
    assert locate(REPOSITORY, WANTED) == snapshot
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gated", "log in with `hf auth login`"),
        ("gated", "accept them on https://huggingface.co/me/gated"),
        ("private", "no such repository on the hub that you may see"),
        ("norevision", "me/norevision has no revision v9"),
        ("broken", "or not all of it, and the hub answered 418: try again later, or give a folder"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_refusal_of_the_hub_is_a_sentence(name: str, words: str) -> None:
    assert words in refusal(f"me/{name}@v9")


@pytest.mark.parametrize("name", ["a--b/c", "a/b..c", "a/b.git", f"a/{'b' * 100}"])
@pytest.mark.usefixtures("cache")
def test_what_only_looks_like_an_id_is_a_sentence(name: str) -> None:
    assert f"{name} is no folder here and no id on the hub" in refusal(name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "The disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (RuntimeError("xet: line 1\nline 2"), "could not be fetched (xet: line 1)"),
        (RuntimeError(), "could not be fetched (RuntimeError)"),
    ],
)
def test_a_fetch_that_breaks_off_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert words in refusal(REPOSITORY)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "`pip install 'animatic[export]'`" in refusal(REPOSITORY)


def test_only_the_wanted_files_and_the_card_are_fetched(hub: Path) -> None:
    folder = locate(REPOSITORY, WANTED)
    assert folder.is_relative_to(hub)
    found = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert found == {name: data for name, data in FILES.items() if "text_encoder" not in name}


def test_one_file_is_fetched_with_the_card(hub: Path) -> None:
    file = locate(f"{REPOSITORY}:text_encoder/model.safetensors")
    assert file.read_bytes() == b"large"
    root = hub / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "LICENSE.txt",
        "ltx-video-2b-v0.9.5.license.txt",
        "text_encoder/model.safetensors",
    }
    assert f"{REPOSITORY} has no file b.pt" in refusal(f"{REPOSITORY}:b.pt")
    assert f"{REPOSITORY} holds no vae/*" in refusal(REPOSITORY, ("vae/*",))


def test_the_name_of_a_file_is_no_pattern(cache: Path) -> None:
    snapshot = fill_cache(cache, FILES | {"a[1].pt": b"x"}, listed=True)
    assert locate(f"{REPOSITORY}:a[1].pt") == snapshot / "a[1].pt"
    assert "has no file *.md" in refusal(f"{REPOSITORY}:*.md")
