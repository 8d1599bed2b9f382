"""A graph on disk: one file, or where it is large, one more for its weights.

A protobuf cannot pass 2 GB, and whoever loads one holds its weights twice. A weight in external
data is written from where it is in memory, one after the other, and mapped by those who read it.
"""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import onnx_ir as ir

from animatic.bundle import FileRef
from animatic_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import ModelProto

SINGLE_FILE: Final = 1 << 30
"""Bytes of weights up to which a graph is one file."""
INLINE: Final = 1024
"""Bytes up to which a tensor stays in the graph: shapes must, for those who infer with them."""
ALIGNMENT: Final = 4096
"""Weights begin at multiples of this many bytes, the page that is mapped."""
GB: Final = 1e9


def data_path(graph: Path) -> Path:
    """Where the external data of a graph lies."""
    return graph.with_name(f"{graph.name}.data")


def write_model(model: ir.Model, path: Path, single_file: int = SINGLE_FILE) -> tuple[FileRef, ...]:
    """Write a model; what lies beside it, if its weights are more than `single_file` bytes.

    OSError if the disk is full or the like, and then what was written may be there in part.
    """
    size = sum(tensor.nbytes for tensor in _tensors(model))
    if size <= single_file:
        onnx.save(_bare(model), path)
        return ()
    data = data_path(path)
    sha256 = _move_out(model, data)
    onnx.save(_bare(model), path)
    return (FileRef(file=data.name, sha256=sha256),)


def refuse_if_short(folder: Path, size: int, doing: str) -> None:
    """ExportError if there is less room than this many bytes on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ExportError(
            f"{doing} needs about {size / GB:.1f} GB in {folder.parent} and {free / GB:.1f} GB are "
            "free: make room, or choose another --out."
        )


def _tensors(model: ir.Model) -> Iterable[ir.TensorProtocol]:
    return (v.const_value for v in model.graph.initializers.values() if v.const_value is not None)


def _move_out(model: ir.Model, data: Path) -> str:
    """Write a model's large tensors to a file, and refer to it; return its SHA-256 in hex."""
    digest = hashlib.sha256()
    with data.open("wb") as stream:
        end = 0
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= INLINE:
                continue
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            array = np.ascontiguousarray(tensor.numpy())
            for part in (bytes(offset - end), array.reshape(-1).view(np.uint8).data):
                digest.update(part)
                stream.write(part)
            end = offset + array.nbytes
            value.const_value = ir.ExternalTensor(
                data.name,
                offset,
                array.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=str(value.name),
                base_dir=data.parent,
            )
    return digest.hexdigest()


def _bare(model: ir.Model) -> ModelProto:
    """Return the protobuf of a model, without what is of no use to those who run it."""
    proto: ModelProto = ir.to_proto(model)
    for node in proto.graph.node:
        if node.name:  # by torch's exporter, which tells files and lines of the machine it ran on
            del node.metadata_props[:]
            node.doc_string = ""
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    return proto
