"""What a parsed network asks for; the network is TensorRT-RTX's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic_engines.compiler import load_backend
from animatic_engines.intent import intent_of
from tests.engines.building import needs_compiler
from tests.engines.small_bundle import LINEARS, attention_graph

if TYPE_CHECKING:
    from animatic_engines.intent import Intent


def parsed(precision: str) -> Intent:
    needs_compiler()
    trt = load_backend("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(attention_graph(precision).SerializeToString())
    return intent_of(network)


@pytest.mark.parametrize(("precision", "quantised"), [("fp16", set()), ("int8", set(LINEARS))])
def test_quantised_products_and_attentions_are_found(precision: str, quantised: set[str]) -> None:
    intent = parsed(precision)
    assert set(intent.quantised) == quantised
    assert intent.attentions == ("softmax",)
