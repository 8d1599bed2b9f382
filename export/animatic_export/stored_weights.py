"""Weights read back from a graph's file, one at a time: the way from a bundle into torch again.

A graph of another precision is made from the bundle alone. Its weights may be gigabytes that lie in
a file beside the graph, so they are mapped and not read, and each is widened only when it is asked
for: a module may take them over one by one, and there is no second copy of them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ml_dtypes
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from onnx import ModelProto

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

SHARED: Final = "animatic.shared"
"""Key of a model's metadata: JSON of names of weights that are not there, each with the name of one
that is and has the same values. The exporter stores equal small weights once."""
FLOATS: Final = frozenset({np.dtype(t) for t in (np.float32, np.float16, ml_dtypes.bfloat16)})
_ENDINGS: Final = (".half", ".bfloat16", ".int8")


class StoredWeights(Mapping[str, "Array"]):
    """The weights of a graph under their torch names, float32, however they are stored.

    Every access makes a new array; nothing is kept.
    """

    def __init__(self, model: ModelProto, folder: Path) -> None:
        """Take a model whose external data, if it has any, was not loaded and lies in a folder."""
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._folder = folder
        self._places = {_torch_name(name): name for name in self._tensors if self._is_weight(name)}
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        shared = msgspec.json.decode(metadata.get(SHARED, "{}"), type=dict[str, str])
        self._places |= {absent: self._places[present] for absent, present in shared.items()}

    @classmethod
    def open(cls, path: Path) -> StoredWeights:
        """Open the weights of a graph's file."""
        return cls(onnx.load(path, load_external_data=False), path.parent)

    def __getitem__(self, name: str) -> Array:
        """Read one weight; KeyError if there is none of this name."""
        place = self._places[name]
        array = self._array(place)
        if array.dtype == np.int8:
            stem = place.removesuffix(".int8")
            scale = self._array(f"{stem}.scale").astype(np.float32)
            # The weight's own, or (0, 0, columns) of rows that are gathered.
            shape = [int(size) for size in self._array(f"{stem}.shape")]
            wide = array.astype(np.float32) * scale
            array = wide.reshape(shape if shape[0] else (-1, shape[-1]))
        turned = array.T if _stem(place).endswith(".T") else array
        # Rows in torch's order: turned, a linear layer in half takes a processor 8 times as long.
        return turned.astype(np.float32, order="C")

    def __iter__(self) -> Iterator[str]:
        """Every name, in the order of the file."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many weights there are."""
        return len(self._places)

    def _is_weight(self, name: str) -> bool:
        dtype = helper.tensor_dtype_to_np_dtype(self._tensors[name].data_type)
        of_int8 = name.endswith(".scale") and f"{name.removesuffix('.scale')}.int8" in self._tensors
        return name.endswith(".int8") or (dtype in FLOATS and not of_int8)

    def _array(self, name: str) -> np.ndarray:
        """Return a tensor as it is stored: mapped from the file, or of the model's own memory."""
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        data = {entry.key: entry.value for entry in tensor.external_data}
        mapped = np.memmap(
            self._folder / Path(data["location"]).name,  # always a neighbour (`external_data`)
            helper.tensor_dtype_to_np_dtype(tensor.data_type),
            mode="r",
            offset=int(data.get("offset", "0")),
            shape=tuple(tensor.dims),
        )
        return np.asarray(mapped)


def _stem(stored: str) -> str:
    for ending in _ENDINGS:
        stored = stored.removesuffix(ending)
    return stored


def _torch_name(stored: str) -> str:
    return _stem(stored).removesuffix(".T")
