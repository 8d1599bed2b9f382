"""Which files of a folder are its checkpoint: one file, or the shards that an index names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import msgspec

from animatic_export.checkpoint.formats import TORCH
from animatic_export.errors import CheckpointError, MissingCheckpointError

STEMS: Final = ("diffusion_pytorch_model", "model")
"""How diffusers and transformers name a component's weights."""
_INDEX: Final = ".safetensors.index.json"


class _Index(msgspec.Struct):
    """What is read of an index: tensor name -> file beside it."""

    weight_map: dict[str, str]


def find_weights(path: Path) -> Path:
    """Return the checkpoint's file, or the index of its shards, for a file or a folder.

    In a folder it is what diffusers and transformers would load, a whole file before shards;
    without one of their names, the only safetensors file there.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingCheckpointError(f"There is no file or folder {path}: check its name.")
    for stem in STEMS:
        for name in (f"{stem}.safetensors", f"{stem}{_INDEX}"):
            if (path / name).is_file():
                return path / name
    indices = sorted(path.glob(f"*{_INDEX}"))
    found = indices or sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{path} holds several checkpoints ({names}): give one of them.")
    raise CheckpointError(_without_weights(path))


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights under diffusers' name, whole or in shards."""
    stem = STEMS[0]
    return any((folder / f"{stem}{ending}").is_file() for ending in (".safetensors", _INDEX))


def is_index(path: Path) -> bool:
    """Whether the file is an index of shards."""
    return path.name.endswith(_INDEX)


def read_index(index: Path) -> dict[str, Path]:
    """Return the shard of each tensor; CheckpointError if the index is malformed or shards lack."""
    try:
        places = msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{index} is malformed ({error}): fetch it again.") from error
    except OSError as error:
        raise CheckpointError(
            f"{index} cannot be read ({error.strerror}): give a file that you may read."
        ) from error
    for name, shard in places.items():
        if shard in {"", ".", ".."} or any(
            kind(shard).name != shard for kind in (PurePosixPath, PureWindowsPath)
        ):
            raise CheckpointError(
                f"{index} puts {name} into {shard!r}, which is not a file beside it: fetch the "
                "index again."
            )
    for shard in sorted(set(places.values())):
        if not (index.parent / shard).is_file():
            raise MissingCheckpointError(
                f"{shard} is missing beside {index}: fetch the rest of the checkpoint."
            )
    return {name: index.parent / shard for name, shard in places.items()}


def _without_weights(folder: Path) -> str:
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in TORCH)
    if pickles:
        return (
            f"{folder} holds no safetensors, only {', '.join(pickles)}: give that file itself if "
            "you mean it, or a checkpoint in safetensors."
        )
    parts = sorted(file.parent.name for file in folder.glob("*/*.safetensors"))
    if parts:
        return (
            f"{folder} has its weights in folders ({', '.join(dict.fromkeys(parts))}): give one "
            "of them."
        )
    return f"{folder} holds no weights (no .safetensors file): give the folder of a checkpoint."
