"""Where the weights of graphs in the making are: in the graphs, or in files beside them.

A graph is copied and rebuilt at every step of a calibration. With its weights inside, one of 2.8 GB
would be in memory several times over, and protobuf refuses to write more than 2 GiB. Where graphs
are large, what is passed around holds names and places only; a weight is mapped from its file when
it is looked at, and a changed one is appended to another file, once for all graphs that want it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["INLINE", "IN_GRAPH", "Weights", "bytes_in", "bytes_of"]

INLINE: Final = 1024
"""Bytes up to which a tensor stays in the graph: shapes must, for those who infer with them."""
ALIGNMENT: Final = 4096
"""Weights begin at multiples of this many bytes, the page that is mapped."""


class Weights:
    """Reads and makes the constants of graphs.

    root: the folder in which all files with constants above INLINE bytes lie, at any depth; None:
        they are in the graphs. made: the file in it for those that are made; None: these are in the
        graphs.
    """

    def __init__(self, root: Path | None = None, made: Path | None = None) -> None:
        self.root = root
        self._made = made
        self._derived: dict[tuple[str, ...], TensorProto] = {}

    def load(self, path: Path) -> ModelProto:
        """Read a graph; OSError if it cannot be read."""
        if self.root is None:
            return onnx.load(path)
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if _is_external(tensor):
                # What was relative to the graph is from now on relative to the root.
                location = next(e for e in tensor.external_data if e.key == "location")
                file = path.with_name(location.value).relative_to(self.root)
                location.value = file.as_posix()
            elif len(tensor.raw_data) > INLINE:
                tensor.CopyFrom(self.tensor(numpy_helper.to_array(tensor), tensor.name))
        return model

    def array(self, tensor: TensorProto) -> Array:
        """Return a constant's values; those in a file are mapped, and must not be written to."""
        if self.root is None or not _is_external(tensor):
            return numpy_helper.to_array(tensor)
        place = _place(tensor)
        mapped = np.memmap(
            self.root / place["location"],
            helper.tensor_dtype_to_np_dtype(tensor.data_type),
            "r",
            int(place.get("offset", 0)),
            tuple(tensor.dims),
        )
        return np.asarray(mapped)

    def tensor(self, array: Array, name: str) -> TensorProto:
        """Make a constant."""
        if self.root is None or self._made is None or array.nbytes <= INLINE:
            return numpy_helper.from_array(array, name)
        return _append(self._made, self._made.relative_to(self.root).as_posix(), array, name)

    def derived(
        self, tensor: TensorProto, name: str, key: str, make: Callable[[Array], Array]
    ) -> TensorProto:
        """Make a constant of another; of one in a file only once.

        key: says what `make` does, so that the same of the same constant is not made again.
        """
        if not _is_external(tensor):
            return self.tensor(make(self.array(tensor)), name)
        place = _place(tensor)
        known = (place["location"], place.get("offset", "0"), key)
        if known not in self._derived:
            self._derived[known] = self.tensor(make(self.array(tensor)), name)
        again = TensorProto()
        again.CopyFrom(self._derived[known])
        again.name = name
        return again

    def save(self, model: ModelProto, path: Path, one_file: int) -> Path | None:
        """Write a graph; its weights beside it if they are more than `one_file` bytes.

        Returns the file of these, if there is one.
        """
        whole = ModelProto()
        whole.CopyFrom(model)
        data = path.with_name(f"{path.name}.data") if bytes_of(model) > one_file else None
        for tensor in whole.graph.initializer:
            if data is not None and bytes_in(tensor) > INLINE:
                tensor.CopyFrom(_append(data, data.name, self.array(tensor), tensor.name))
            elif _is_external(tensor):
                tensor.CopyFrom(numpy_helper.from_array(self.array(tensor), tensor.name))
        onnx.save(whole, path)
        return data


IN_GRAPH: Final = Weights()
"""Of small graphs."""


def bytes_of(model: ModelProto) -> int:
    """Count the bytes of all constants of a graph."""
    return sum(map(bytes_in, model.graph.initializer))


def bytes_in(tensor: TensorProto) -> int:
    """Count the bytes of a constant."""
    size = int(np.prod(tensor.dims, dtype=np.int64))
    return size * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _place(tensor: TensorProto) -> dict[str, str]:
    """Where external data lies: location, offset and length."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _append(file: Path, location: str, array: Array, name: str) -> TensorProto:
    """Write an array to the end of a file, and return a constant that refers to it."""
    with file.open("ab") as stream:
        end = stream.tell()
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        stream.write(bytes(offset - end))
        stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    places = {"location": location, "offset": str(offset), "length": str(array.nbytes)}
    return TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key=k, value=v) for k, v in places.items()],
    )
