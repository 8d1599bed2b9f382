"""The weights of the built-in bundle, read without the package `onnx`, which training does without.

An ONNX file is a protocol buffer (developers.google.com/protocol-buffers/docs/encoding); of it only
the initialisers are read, and which of them the exporter stored once under several names. What was
stored narrow is widened, as `animatic_export.stored_weights` does it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

SHARED: Final = "animatic.shared"
"""Key of a model's metadata: JSON of absent names, each with the one that has the same values."""

_GRAPH, _METADATA = 7, 14  # fields of ModelProto
_INITIALISER = 5  # of GraphProto
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_TYPES: Final[dict[int, np.dtype[Any]]] = {
    1: np.dtype(np.float32),
    3: np.dtype(np.int8),
    7: np.dtype(np.int64),
    10: np.dtype(np.float16),
}
"""TensorProto.DataType of what our exporter stores."""


class _Field(NamedTuple):
    number: int
    value: int | memoryview


def read_bundle_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a graph's file under their torch names, float32."""
    tensors: dict[str, np.ndarray] = {}
    shared: dict[str, str] = {}
    for field in _fields(memoryview(path.read_bytes())):
        if field.number == _GRAPH and isinstance(field.value, memoryview):
            tensors |= dict(_tensors(field.value))
        elif field.number == _METADATA and isinstance(field.value, memoryview):
            entry = {f.number: f.value for f in _fields(field.value)}
            if _text(entry[_KEY]) == SHARED:
                shared = json.loads(_text(entry[_VALUE]))
    weights = {
        _torch_name(name): _wide(name, tensors) for name in tensors if _is_weight(name, tensors)
    }
    weights |= {absent: weights[present] for absent, present in shared.items()}
    return {name: torch.from_numpy(array) for name, array in weights.items()}


def _tensors(graph: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    for field in _fields(graph):
        if field.number != _INITIALISER or not isinstance(field.value, memoryview):
            continue
        shape: list[int] = []
        parts: dict[int, int | memoryview] = {}
        for part in _fields(field.value):
            if part.number == _DIMS:
                packed = part.value
                shape += list(_varints(packed)) if isinstance(packed, memoryview) else [packed]
            else:
                parts[part.number] = part.value
        dtype, raw = _TYPES.get(cast("int", parts[_TYPE])), parts.get(_RAW)
        if dtype is not None and isinstance(raw, memoryview):
            yield _text(parts[_NAME]), np.frombuffer(raw, dtype).reshape(shape)


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the fields of a message; a submessage, text or array as its bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield _Field(number, value)
            continue
        length, place = _varint(message, place) if wire == 2 else ({1: 8, 5: 4}[wire], place)
        yield _Field(number, message[place : place + length])
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _varints(packed: memoryview) -> Iterator[int]:
    place = 0
    while place < len(packed):
        value, place = _varint(packed, place)
        yield value


def _text(value: int | memoryview) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else str(value)


def _is_weight(name: str, tensors: dict[str, np.ndarray]) -> bool:
    of_int8 = name.endswith(".scale") and f"{name.removesuffix('.scale')}.int8" in tensors
    return name.endswith(".int8") or (tensors[name].dtype != np.int64 and not of_int8)


def _torch_name(name: str) -> str:
    for ending in (".half", ".int8"):
        name = name.removesuffix(ending)
    return name.removesuffix(".T")


def _wide(name: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
    array = tensors[name]
    stem = name.removesuffix(".int8").removesuffix(".half")
    if array.dtype == np.int8:
        scale = tensors[f"{stem}.scale"].astype(np.float32)
        # The weight's own, or (0, 0, columns) of rows that are gathered.
        shape = [int(size) for size in tensors[f"{stem}.shape"]]
        wide = array.astype(np.float32) * scale
        array = wide.reshape(shape if shape[0] else (-1, shape[-1]))
    turned = array.T if stem.endswith(".T") else array
    return np.array(turned, np.float32, order="C")
