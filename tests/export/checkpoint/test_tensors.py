from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from animatic_export.checkpoint.digest import combine, parse_sha256
from animatic_export.checkpoint.tensors import Outline, open_tensors
from animatic_export.errors import CheckpointError, MissingCheckpointError

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a.bias": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "b.weight": torch.tensor([3.0], dtype=torch.float16),
    "b.scale": torch.tensor([0.5]).to(torch.float8_e4m3fn),
    "steps": torch.tensor(7),
}


class Malicious:
    """Unpickles to the call of a function, as malware does; this one makes an empty file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def write_shards(folder: Path) -> Path:
    save_file({n: t for n, t in TENSORS.items() if n.startswith("a.")}, folder / SHARDS[0])
    save_file({n: t for n, t in TENSORS.items() if not n.startswith("a.")}, folder / SHARDS[1])
    places = {name: SHARDS[not name.startswith("a.")] for name in TENSORS}
    return write_index(folder, places)


def write_index(folder: Path, places: dict[str, str]) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def assert_holds(path: Path) -> None:
    tensors = open_tensors(path)
    assert set(tensors) == set(TENSORS)
    assert len(tensors) == len(TENSORS)
    for name, expected in TENSORS.items():
        assert tensors.shape(name) == tuple(expected.shape)
        assert tensors.dtype(name) == expected.dtype
        found = tensors[name]
        assert found.dtype == expected.dtype
        assert found.double().equal(expected.double())


def refusal(path: Path) -> str:
    """What is said of a checkpoint that is refused: one sentence."""
    with pytest.raises(CheckpointError) as caught:
        open_tensors(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("name", ["model.safetensors", "any.safetensors", "ANY.SFT"])
def test_a_safetensors_file_is_read(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name, {"format": "pt"})
    assert_holds(tmp_path / name)
    assert open_tensors(tmp_path / name).metadata == {"format": "pt"}


@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "model", "anything"])
def test_a_component_folder_is_read(tmp_path: Path, stem: str) -> None:
    save_file(TENSORS, tmp_path / f"{stem}.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert_holds(tmp_path)


def test_shards_are_read_by_folder_and_by_index(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    assert_holds(tmp_path)
    assert_holds(index)
    assert open_tensors(tmp_path).files == (index, *(tmp_path / shard for shard in SHARDS))


def test_a_whole_file_goes_before_shards(tmp_path: Path) -> None:
    write_shards(tmp_path)
    save_file({"whole": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert list(open_tensors(tmp_path)) == ["whole"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_flat_torch_file_is_read(tmp_path: Path, suffix: str) -> None:
    torch.save(TENSORS, tmp_path / f"weights{suffix}")
    assert_holds(tmp_path / f"weights{suffix}")


def test_a_torch_file_from_before_1_6_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"w": TENSORS["a.weight"]}, path, _use_new_zipfile_serialization=False)
    assert open_tensors(path)["w"].equal(TENSORS["a.weight"])


@pytest.mark.parametrize("key", ["generator_ema", "generator", "model", "state_dict"])
def test_a_nested_torch_file_is_read(tmp_path: Path, key: str) -> None:
    torch.save({"step": 3, "critic": {"c": torch.zeros(1)}, key: TENSORS}, tmp_path / "dmd.pt")
    assert_holds(tmp_path / "dmd.pt")


def test_the_average_of_the_generator_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "dmd.pt"
    torch.save({"generator": {"x": torch.zeros(1)}, "generator_ema": TENSORS}, path)
    assert_holds(path)


def test_a_parameter_is_read_as_a_tensor(tmp_path: Path) -> None:
    torch.save({"w": nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    assert not open_tensors(tmp_path / "a.pt")["w"].requires_grad


def test_nothing_is_loaded_to_know_shapes(tmp_path: Path) -> None:
    """The values are overwritten after opening: what is taken later is what is there then."""
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(4)}, path)
    tensors = open_tensors(path)
    assert tensors.shape("w") == (4,)
    data = path.read_bytes()
    with path.open("r+b") as stream:
        stream.seek(len(data) - 16)
        stream.write(torch.ones(4).numpy().tobytes())
    assert tensors["w"].equal(torch.ones(4))


def test_an_unknown_tensor_is_a_key_error(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    tensors = open_tensors(tmp_path / "a.safetensors")
    assert "nothing" not in tensors
    for take in (tensors.__getitem__, tensors.shape, tensors.dtype):
        with pytest.raises(KeyError, match="nothing"):
            take("nothing")


def test_an_outline_loads_nothing_but_single_numbers(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    outline = Outline(open_tensors(tmp_path / "a.safetensors"))
    assert outline["steps"].item() == 7
    assert outline.keys() == TENSORS.keys()
    assert len(outline) == len(TENSORS)
    for name in TENSORS.keys() - {"steps"}:
        found = outline[name]
        assert found.is_meta
        assert (found.shape, found.dtype) == (TENSORS[name].shape, TENSORS[name].dtype)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_pickle_with_code_is_refused_unrun(tmp_path: Path, suffix: str, *, zipped: bool) -> None:
    path, mark = tmp_path / f"evil{suffix}", tmp_path / "it-ran"
    content = {"a": torch.zeros(2), "b": Malicious(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert f"{path} is a pickle that wants to run code while it is read" in message
    assert "give a safetensors file" in message
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the payload is a real one
    assert mark.exists()


def test_a_bare_pickle_with_code_is_refused_unrun(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.bin", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps(Malicious(mark)))
    assert "wants to run code" in refusal(path)
    assert not mark.exists()


def test_neither_a_variable_in_the_environment_opens_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, mark = tmp_path / "evil.pt", tmp_path / "it-ran"
    torch.save({"b": Malicious(mark)}, path)
    assert "wants to run code" in refusal(path)
    assert not mark.exists()


def test_what_else_a_training_run_pickles_is_named(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=1), "model": TENSORS}, tmp_path / "run.pt")
    assert "(argparse.Namespace)" in refusal(tmp_path / "run.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    assert "wants to run code" in refusal(tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "holds a list and not tensors by name"),
        (torch.zeros(1), "holds a Tensor and not tensors by name"),
        ({}, "holds no tensors"),
        ({"model": {}}, "holds no tensors"),
        ({"unet": TENSORS, "vae": TENSORS}, "under unet, vae and none of generator_ema"),
        ({"model": {"a": TENSORS}}, "'a' in"),
        ({"a": torch.zeros(1), "config": {"d": 2}}, "'config' in"),
        ({"a": torch.zeros(1), "epoch": 3}, "'epoch' in"),
        ({3: torch.zeros(1)}, "3 in"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(
    tmp_path: Path, content: object, words: str
) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert words in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize(
    ("kept", "added"),
    [
        (0, b""),
        (3, b""),
        (0.5, b""),
        (-1, b""),
        (0, b"<html>404</html>" * 20),
        (0, bytes(range(256)) * 20),
        (0, bytes(range(255, -1, -1)) * 20),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, kept: float, added: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 if kept == 0.5 else int(kept)] + added)
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "git lfs pull" in refusal(path)


@pytest.mark.parametrize("name", ["a.gguf", "a.onnx", "a"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "neither safetensors nor a torch file" in refusal(tmp_path / name)


def test_a_type_without_a_torch_counterpart_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    assert "w in" in refusal(path)
    assert "F8_E8M0" in refusal(path)


def test_a_missing_file_or_shard_is_a_missing_checkpoint(tmp_path: Path) -> None:
    for path in (tmp_path / "no", tmp_path / "no.safetensors"):
        with pytest.raises(MissingCheckpointError, match="There is no file or folder"):
            open_tensors(path)
    write_shards(tmp_path)
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(MissingCheckpointError, match=rf"{SHARDS[1]} is missing beside"):
        open_tensors(tmp_path)


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path)
    shard = tmp_path / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert SHARDS[1] in refusal(tmp_path)


def test_an_index_that_names_a_tensor_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path)
    write_index(tmp_path, {"a.weight": SHARDS[0], "c.weight": SHARDS[1]})
    assert f"c.weight is in {SHARDS[1]}, where it is not" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": 3}', "\xff", "[" * 5000])
def test_a_malformed_index_is_refused(tmp_path: Path, text: str) -> None:
    index = write_shards(tmp_path)
    index.write_text(text, "latin-1")
    assert "is malformed" in refusal(tmp_path)


@pytest.mark.parametrize("shard", ["../a.safetensors", "/a.safetensors", "..", "", "b\\a", "C:a"])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path: Path, shard: str) -> None:
    write_index(tmp_path, {"a": shard})
    save_file({"a": torch.zeros(1)}, tmp_path.parent / "a.safetensors")
    assert "not a file beside it" in refusal(tmp_path)


def test_an_empty_index_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path, {})
    assert "names no tensors" in refusal(tmp_path)


def test_a_folder_that_is_no_checkpoint_says_what_to_give(tmp_path: Path) -> None:
    assert "holds no weights" in refusal(tmp_path)
    torch.save(TENSORS, tmp_path / "dmd.pt")
    assert "only dmd.pt: give that file itself" in refusal(tmp_path)
    (tmp_path / "dmd.pt").unlink()
    (tmp_path / "transformer").mkdir()
    save_file(TENSORS, tmp_path / "transformer" / "model.safetensors")
    assert "in folders (transformer)" in refusal(tmp_path)
    for name in ("x.safetensors", "y.safetensors"):
        save_file(TENSORS, tmp_path / name)
    assert "several checkpoints (x.safetensors, y.safetensors)" in refusal(tmp_path)


def test_a_files_digest_is_its_sha256_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    checkpoint = open_tensors(path)
    assert checkpoint.sha256 == expected
    assert checkpoint.hashes == {"a.safetensors": expected}
    path.unlink()
    assert checkpoint.sha256 == expected


def test_a_folders_digest_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    lines = "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted((index.name, *SHARDS))
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert open_tensors(tmp_path).sha256 == expected
    assert open_tensors(index).sha256 == expected
    assert combine({"b": "1", "a": "2"}) == combine({"a": "2", "b": "1"})
    assert combine({"b": "1", "a": "2"}) != combine({"a": "1", "b": "2"})


def test_an_expected_hash_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for text in (found, f"sha256:{found}", f"sha256:{found.upper()}"):
        assert len(open_tensors(path, sha256=text)) == len(TENSORS)
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {found}, expected {'0' * 64}"):
        open_tensors(path, sha256="sha256:" + "0" * 64)
    for text in ("", "sha256:", found[:-1], "md5:" + found, found[:-1] + "g"):
        with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
            parse_sha256(text)
