"""What an engine is made of: the compiler's own list of layers, read from its build log.

An engine for a card that is not there cannot be opened, so the engine inspector is of no use. But
with detailed profiling verbosity the builder logs, as one message that begins with "Layers:", every
layer with its type, the data types of its tensors and the ONNX nodes that went into it. The form is
that of TensorRT-RTX 1.7; TensorRT proper, which only builds where its card is, gives the same as
JSON through its inspector.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "NARROW",
    "Layer",
    "LayerSummary",
    "Tensor",
    "arithmetic",
    "kind_of",
    "onnx_names",
    "read_inspector",
    "read_layers",
    "summarise",
]

HEADING: Final = "Layers:"
NARROW: Final = frozenset({"int8", "float8"})
# The compiler's names for data types, narrowest first.
_DTYPES: Final = {
    "FP4": "float4",
    "FP4E2M1": "float4",
    "Int4": "int4",
    "FP8": "float8",
    "FP8E4M3": "float8",
    "Int8": "int8",
    "UInt8": "uint8",
    "Bool": "bool",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Float": "float32",
    "Int32": "int32",
    "Int64": "int64",
}
_WIDTH: Final = {name: width for width, name in enumerate(dict.fromkeys(_DTYPES.values()))}
_LAYER: Final = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], "
    r"TacticName: (?P<tactic>.*?), StreamId: .*?Metadata: (?P<metadata>.*)"
)
_TENSOR: Final = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[-\d,]*)\], .*?Datatype: (?P<dtype>\w+)"
)
_ONNX: Final = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\[]|$)")

LayerKind = Literal["gemm", "convolution", "attention", "other"]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen and named."""


class Tensor(_Part, frozen=True, kw_only=True):
    """A tensor between layers; -1 stands for a dynamic axis, dtype is such as "float16"."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Layer(_Part, frozen=True, kw_only=True):
    """One layer of an engine.

    type: the compiler's word for it: gemm, correlation, kgen (a generated kernel) …
    constants: weights and the like.
    onnx: names of the ONNX nodes that were fused into it.
    tactic: the kernel's name, "" where it is chosen on the card.
    """

    name: str
    type: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    onnx: tuple[str, ...]
    tactic: str


class LayerSummary(_Part, frozen=True, kw_only=True):
    """Layers by what they are, and for each kind how many compute in which data type."""

    layers: int = 0
    gemms: dict[str, int] = {}  # msgspec copies an empty default
    convolutions: dict[str, int] = {}
    attentions: dict[str, int] = {}

    @property
    def words(self) -> str:
        """Such as "40 int8 gemms, 12 float16 fused attentions"."""
        kinds = (
            ("gemm", self.gemms),
            ("convolution", self.convolutions),
            ("fused attention", self.attentions),
        )
        parts = [
            f"{count} {dtype} {kind}{'s' if count > 1 else ''}"
            for kind, counts in kinds
            for dtype, count in sorted(counts.items(), key=lambda item: _WIDTH.get(item[0], 0))
        ]
        return ", ".join(parts) or f"{self.layers} layers"


def read_layers(messages: Iterable[str]) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Find the layers among the builder's log messages, and the lines that could not be read."""
    layers: list[Layer] = []
    strange: list[str] = []
    for message in messages:
        if not message.startswith(HEADING):
            continue
        # The list ends at an empty line; the engine's own inputs and outputs follow.
        body = message.removeprefix(HEADING).partition("\n\n")[0]
        for line in filter(None, body.split("\n")):
            match = _LAYER.fullmatch(line)
            if match is None:
                strange.append(line)
                continue
            layers.append(
                Layer(
                    name=match["name"],
                    type=match["type"],
                    inputs=tuple(_tensors(match["inputs"])),
                    constants=tuple(_tensors(match["constants"] or "")),
                    outputs=tuple(_tensors(match["outputs"])),
                    onnx=onnx_names(match["metadata"]),
                    tactic=match["tactic"],
                )
            )
    return tuple(layers), tuple(strange)


def _tensors(text: str) -> Iterator[Tensor]:
    for match in _TENSOR.finditer(text):
        yield Tensor(
            name=match["name"],
            dtype=_DTYPES.get(match["dtype"], match["dtype"]),
            shape=tuple(int(size) for size in match["shape"].split(",") if size),
        )


def onnx_names(metadata: str) -> tuple[str, ...]:
    """Names of ONNX nodes in a layer's metadata, each once: "[ONNX Layer: a]…[ONNX Layer: b]"."""
    return tuple(dict.fromkeys(_ONNX.findall(metadata)))


class _InspectedTensor(msgspec.Struct, rename="pascal"):
    name: str
    dimensions: tuple[int, ...] = ()
    datatype: str = ""
    # Before 10.8 one field said both: "Row major linear FP16 format", or only "Half".
    format_datatype: str = msgspec.field(default="", name="Format/Datatype")


class _InspectedLayer(msgspec.Struct, rename="pascal"):
    name: str
    layer_type: str = ""
    inputs: list[_InspectedTensor] = []
    outputs: list[_InspectedTensor] = []
    constants: list[_InspectedTensor] = []
    tactic_name: str = ""
    metadata: str = ""


class _Inspected(msgspec.Struct, rename="pascal"):
    layers: list[_InspectedLayer | str] = []


def read_inspector(document: str) -> tuple[Layer, ...]:
    """Read the JSON of TensorRT's engine inspector; layers that are mere names are left out.

    msgspec.MsgspecError if it has another form.
    """
    inspected = msgspec.json.decode(document, type=_Inspected)
    return tuple(
        Layer(
            name=layer.name,
            type=layer.layer_type,
            inputs=tuple(map(_inspected, layer.inputs)),
            constants=tuple(map(_inspected, layer.constants)),
            outputs=tuple(map(_inspected, layer.outputs)),
            onnx=onnx_names(layer.metadata),
            tactic=layer.tactic_name,
        )
        for layer in inspected.layers
        if isinstance(layer, _InspectedLayer)
    )


def _inspected(tensor: _InspectedTensor) -> Tensor:
    spoken = tensor.datatype or tensor.format_datatype
    return Tensor(name=tensor.name, dtype=_DTYPES.get(spoken, spoken), shape=tensor.dimensions)


def kind_of(layer: Layer) -> LayerKind:
    """What a layer computes, by its type and, where the compiler fused it, its name."""
    kind = layer.type.lower()
    if layer.name.startswith("_gemm_mha"):
        return "attention"
    if kind == "correlation" or "convolution" in kind:
        return "convolution"
    # A fusion is named for its steps: __myl_FcAddSilu is a fully connected layer, Add and SiLU.
    if "gemm" in kind or (kind == "runtime_fusion" and layer.name.startswith("__myl_Fc")):
        return "gemm"
    return "other"


def arithmetic(layer: Layer) -> str:
    """The data type that a gemm, convolution or attention multiplies in; "" if it has no input.

    That is the type of its data or of its weights, whichever is wider: 8-bit weights beside 16-bit
    data are widened first. Data is the narrowest input, as a residual that is added afterwards may
    be wider; weights are the largest constant, as others are biases and scales.
    """
    if not layer.inputs:
        return ""
    data = min((tensor.dtype for tensor in layer.inputs), key=_width)
    if not layer.constants or kind_of(layer) == "attention":
        return data
    weights = max(layer.constants, key=lambda tensor: math.prod(tensor.shape))
    if math.prod(weights.shape) == 1:  # only a gemm's alpha and beta: both factors are data
        return data
    return max(data, weights.dtype, key=_width)


def _width(dtype: str) -> int:
    return _WIDTH.get(dtype, len(_WIDTH))


def summarise(layers: Iterable[Layer]) -> LayerSummary:
    """Count the layers that do the work."""
    counts: dict[str, Counter[str]] = {
        kind: Counter() for kind in ("gemm", "convolution", "attention", "other")
    }
    for layer in layers:
        counts[kind_of(layer)][arithmetic(layer)] += 1
    return LayerSummary(
        layers=sum(count.total() for count in counts.values()),
        gemms=dict(counts["gemm"]),
        convolutions=dict(counts["convolution"]),
        attentions=dict(counts["attention"]),
    )
