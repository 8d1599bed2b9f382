"""One file of tensors: safetensors, or what torch.save wrote, if it is nothing but tensors.

A pickle is a program. torch.load is therefore only ever called with weights_only=True, whose
unpickler knows tensors and plain containers and refuses to name anything else.
"""

from __future__ import annotations

import pickle
import re
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from animatic_export.errors import CheckpointError, MissingCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SAFETENSORS: Final = frozenset({".safetensors", ".sft"})
TORCH: Final = frozenset({".pt", ".pth", ".ckpt", ".bin"})
KEYS: Final = ("generator_ema", "generator", "model", "state_dict")
"""Under which name a torch file nests its weights, the preferred first."""

_DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""The names of types in a safetensors header (its README has the list)."""
_ZIP: Final = b"PK\x03\x04"
_LFS: Final = b"version https://git-lfs"
_CODE: Final = re.compile(
    r"GLOBAL (\S+)|reduce for|Can only (?:create|build)|Unsupported operand 149"
)
"""What torch's unpickler says (2.13) of a pickle that names a class or function; 149 begins those
of protocol 4 and 5, which torch.save does not write."""


class Entry(NamedTuple):
    """One tensor: what its header says, and how it is loaded."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]


class Contents(NamedTuple):
    """What a file holds, and the free text of its header, if it has one."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_file(path: Path) -> Contents:
    """Open a file of tensors by its suffix; of a torch file's parts, the first of `KEYS`."""
    suffix = path.suffix.lower()
    if suffix not in SAFETENSORS | TORCH:
        raise CheckpointError(
            f"{path} is neither safetensors nor a torch file ({', '.join(sorted(TORCH))}): give "
            "the weights as a .safetensors file."
        )
    contents = _read_safetensors(path) if suffix in SAFETENSORS else _read_torch(path)
    if not contents.entries:
        raise CheckpointError(f"{path} holds no tensors: give the file with the weights.")
    return contents


def _read_safetensors(path: Path) -> Contents:
    try:
        file: Any = safe_open(path, framework="pt")  # its stubs have no types
        metadata = dict(file.metadata() or {})
        headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, f"not a whole safetensors file ({error})") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    entries: dict[str, Entry] = {}
    for name, header in headers.items():
        dtype = _DTYPES.get(header.get_dtype())
        if dtype is None:
            raise CheckpointError(
                f"{name} in {path} is of the type {header.get_dtype()}, which is not read here: "
                "give the weights in float32, bfloat16 or float16."
            )
        # The file stays mapped for as long as an entry is kept.
        entries[name] = Entry(tuple(header.get_shape()), dtype, partial(file.get_tensor, name))
    return Contents(entries, metadata)


def _read_torch(path: Path) -> Contents:
    tensors = _unwrap(path, _load(path))
    return Contents(
        {name: Entry(tuple(t.shape), t.dtype, t.detach) for name, t in tensors.items()}, {}
    )


def _load(path: Path) -> object:
    """Load a torch file: tensors mapped from the disk where it is a zip, as since torch 1.6."""
    try:
        with path.open("rb") as stream:
            is_zip = stream.read(len(_ZIP)) == _ZIP
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it speaks of TorchScript, and then refuses
            loaded: object = torch.load(path, weights_only=True, mmap=is_zip, map_location="cpu")
    except OSError as error:
        raise _unreadable(path, error) from error
    # Damaged bytes raise whatever they happen to hit in the unpickler.
    except Exception as error:
        code = isinstance(error, pickle.UnpicklingError) and _CODE.search(str(error))
        if code or "TorchScript" in str(error):
            what = f" ({code[1]})" if code and code[1] else ""
            raise CheckpointError(
                f"{path} is a pickle that wants to run code while it is read{what}: give a "
                "safetensors file."
            ) from None
        raise _damaged(path, "not a whole torch file") from error
    return loaded


def _unwrap(path: Path, loaded: object) -> Mapping[str, Tensor]:
    """Return the tensors by name, of the file itself or of the part that holds them."""
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__} and not tensors by name: give a state dict."
        )
    parts = [str(name) for name, value in loaded.items() if isinstance(value, dict)]
    chosen = next((name for name in KEYS if name in parts), None)
    is_flat = any(isinstance(value, Tensor) for value in loaded.values())
    if chosen is None and parts and not is_flat:
        raise CheckpointError(
            f"{path} nests its weights under {', '.join(parts)} and none of {', '.join(KEYS)}: "
            "save the one that is meant alone, as safetensors."
        )
    tensors: dict[str, Tensor] = {}
    for name, value in (loaded if chosen is None else loaded[chosen]).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{name!r} in {path} is a {type(value).__name__} and not a tensor: save the state "
                "dict alone, as safetensors."
            )
        tensors[name] = value
    return tensors


def _damaged(path: Path, what: str) -> CheckpointError:
    with path.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            return CheckpointError(
                f"{path} is a Git LFS pointer to the weights, not the weights: run `git lfs pull` "
                "in its folder."
            )
    return CheckpointError(f"{path} is truncated or damaged, {what}: fetch it again.")


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return MissingCheckpointError(f"There is no file {path}: check its name, or fetch it.")
    return CheckpointError(
        f"{path} cannot be read ({error.strerror or error}): give a file that you may read."
    )
