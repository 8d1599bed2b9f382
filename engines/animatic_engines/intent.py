"""What a network asks the compiler for, and whether the engine's layers grant it.

Taken from the parsed network and not from the ONNX file, so that names are those which the layers
will bear, and no ONNX library is needed where engines are built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from animatic_engines.layers import NARROW, arithmetic, kind_of, onnx_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from animatic_engines.layers import Layer
    from animatic_engines.tensorrt_api import Network, NetworkLayer, NetworkTensor

__all__ = ["Intent", "intent_of", "shortfalls"]


_PRODUCTS: Final = frozenset({"MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION"})
# What may stand between a DequantizeLinear and the product that it feeds: it moves, not computes.
_MOVES: Final = frozenset({"SHUFFLE", "IDENTITY", "CAST", "SLICE"})
_NAMED: Final = 3  # so many names in a warning; the layer dump has them all


class Intent(NamedTuple):
    """The ONNX nodes of which something particular is expected.

    quantised: matrix products and convolutions both of whose factors come out of a
        DequantizeLinear: they are to compute in 8 bits.
    attentions: the softmaxes whose result goes into a matrix product: each is to be one fused
        kernel with the products around it.
    """

    quantised: tuple[str, ...]
    attentions: tuple[str, ...]


def intent_of(network: Network) -> Intent:
    """Read a parsed network."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
    }
    quantised: list[str] = []
    attentions: list[str] = []
    for layer in layers:
        if _type(layer) not in _PRODUCTS:
            continue
        origins = [_origin(tensor, makers) for tensor in _inputs(layer)[:2]]
        kinds = [_type(origin) if origin is not None else "" for origin in origins]
        if kinds == ["DEQUANTIZE", "DEQUANTIZE"]:
            quantised.append(_node(layer))
        attentions += [
            _node(origin) for origin in origins if origin is not None and _type(origin) == "SOFTMAX"
        ]
    return Intent(tuple(quantised), tuple(attentions))


def _type(layer: NetworkLayer) -> str:
    return str(layer.type).rpartition(".")[2]


def _inputs(layer: NetworkLayer) -> list[NetworkTensor]:
    tensors = (layer.get_input(index) for index in range(layer.num_inputs))
    return [tensor for tensor in tensors if tensor is not None]


def _origin(tensor: NetworkTensor, makers: dict[str, NetworkLayer]) -> NetworkLayer | None:
    """The layer that computes a tensor, looking through those that only move it."""
    maker = makers.get(tensor.name)
    while maker is not None and _type(maker) in _MOVES:
        sources = _inputs(maker)
        maker = makers.get(sources[0].name) if sources else None
    return maker


def _node(layer: NetworkLayer) -> str:
    return next(iter(onnx_names(layer.metadata)), layer.name)


def shortfalls(intent: Intent, layers: Sequence[Layer]) -> Iterator[str]:
    """Say what was asked for and not granted, a sentence each."""
    narrow: set[str] = set()
    fused: set[str] = set()
    for layer in layers:
        if kind_of(layer) == "attention":
            fused.update(layer.onnx)
        elif kind_of(layer) != "other" and arithmetic(layer) in NARROW:
            narrow.update(layer.onnx)
    wide = [name for name in intent.quantised if name not in narrow]
    if wide:
        yield (
            f"{len(wide)} of {len(intent.quantised)} quantised products do not compute in 8 bits: "
            f"{_some(wide)}."
        )
    loose = [name for name in intent.attentions if name not in fused]
    if loose:
        yield (
            f"{len(loose)} of {len(intent.attentions)} attentions are not one fused kernel: "
            f"{_some(loose)}."
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
