"""Reading the compiler's list of layers: real ones, as TensorRT-RTX 1.7.1 logged them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from animatic_engines.intent import Intent, shortfalls
from animatic_engines.layers import (
    Layer,
    LayerSummary,
    Tensor,
    arithmetic,
    kind_of,
    onnx_names,
    read_inspector,
    read_layers,
    summarise,
)

DUMPS = Path(__file__).parent / "dumps"


def dump(name: str) -> tuple[Layer, ...]:
    layers, strange = read_layers(["before", (DUMPS / f"{name}.txt").read_text("utf-8"), "after"])
    assert strange == ()
    return layers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "attention_fp16",
            LayerSummary(layers=9, gemms={"float16": 2}, attentions={"float16": 1}),
        ),
        ("attention_int8", LayerSummary(layers=10, gemms={"int8": 2}, attentions={"float16": 1})),
        ("convolution_int8", LayerSummary(layers=5, convolutions={"int8": 2})),
    ],
)
def test_layers_are_counted_by_what_they_multiply_in(name: str, expected: LayerSummary) -> None:
    assert summarise(dump(name)) == expected


def test_a_layer_keeps_types_nodes_and_kernel() -> None:
    gemm = next(layer for layer in dump("attention_int8") if layer.type == "gemm")
    assert gemm.name == "proj_v+proj_k+proj_q_myl0_2"
    assert gemm.inputs == (Tensor(name="__mye5083_10_myl0", dtype="int8", shape=(1, -1, 64)),)
    assert [t.dtype for t in gemm.constants] == ["int8", "float32", "float32"]
    assert [t.dtype for t in gemm.outputs] == ["float16"]
    assert gemm.onnx[:4] == ("proj_v", "proj_v_DQ", "proj_v_WDQ", "proj_k")
    fused = next(layer for layer in dump("attention_int8") if kind_of(layer) == "attention")
    assert fused.onnx == ("out_Q", "mix", "softmax", "scores")
    assert fused.tactic.startswith("_gemm_mha_v2_0x")


def test_an_epilogue_s_name_does_not_hide_its_gemm() -> None:
    fused = next(layer for layer in dump("attention_fp16") if layer.type == "runtime_fusion")
    assert (fused.name, kind_of(fused), arithmetic(fused)) == (
        "__myl_FcCast_myl0_8",
        "gemm",
        "float16",
    )


def layer(inputs: list[str], constants: list[tuple[str, int]], name: str = "a") -> Layer:
    return Layer(
        name=name,
        type="gemm",
        inputs=tuple(Tensor(name="x", dtype=dtype, shape=(-1, 4)) for dtype in inputs),
        constants=tuple(Tensor(name="c", dtype=d, shape=(size,)) for d, size in constants),
        outputs=(),
        onnx=(name,),
        tactic="",
    )


@pytest.mark.parametrize(
    ("inputs", "constants", "expected"),
    [
        (["int8"], [("int8", 16), ("float32", 1)], "int8"),
        (["float16"], [("int8", 16)], "float16"),  # weights that are merely stored narrow
        (["int8", "float16"], [("float16", 4), ("int8", 16)], "int8"),  # a residual and a bias
        (["float16", "float16"], [("float32", 1)], "float16"),  # both factors are data
        (["float8"], [("float8", 16)], "float8"),
        ([], [], ""),
    ],
)
def test_the_wider_factor_decides(
    inputs: list[str], constants: list[tuple[str, int]], expected: str
) -> None:
    assert arithmetic(layer(inputs, constants)) == expected


def test_a_line_of_another_version_is_reported_and_not_lost() -> None:
    text = (DUMPS / "convolution_int8.txt").read_text("utf-8")
    layers, strange = read_layers([text.replace("LayerType: kgen", "Kind: kgen")])
    assert (len(layers), len(strange)) == (2, 3)


def test_the_words_count_what_does_the_work() -> None:
    summary = LayerSummary(layers=9, gemms={"float16": 1, "int8": 40}, attentions={"float16": 12})
    assert summary.words == "40 int8 gemms, 1 float16 gemm, 12 float16 fused attentions"
    assert LayerSummary(layers=3).words == "3 layers"


def test_names_of_nodes_may_hold_brackets() -> None:
    assert onnx_names("[ONNX Layer: a[0]]\x1f[ONNX Layer: b]\x1f[ONNX Layer: b]") == ("a[0]", "b")
    assert onnx_names("") == ()


def test_the_inspector_s_json_gives_the_same_layers() -> None:
    """The form is TensorRT 10's; none was at hand to be recorded here."""
    document = {
        "Layers": [
            {
                "Name": "linear_myl0_2",
                "LayerType": "gemm",
                "Inputs": [{"Name": "x", "Dimensions": [1, -1, 64], "Format/Datatype": "Int8"}],
                "Outputs": [{"Name": "y", "Dimensions": [1, -1, 64], "Datatype": "Half"}],
                "Constants": [{"Name": "w", "Dimensions": [64, 64], "Datatype": "Int8"}],
                "TacticName": "sm80_xmma_gemm",
                "StreamId": 0,
                "Metadata": "[ONNX Layer: linear]",
            },
            "a layer whose details were not kept",
        ],
        "Bindings": ["x", "y"],
    }
    (found,) = read_inspector(json.dumps(document))
    assert (found.type, arithmetic(found), found.onnx) == ("gemm", "int8", ("linear",))


def test_what_was_asked_for_and_not_granted_is_said() -> None:
    layers = [layer(["int8"], [("int8", 16)], "one"), layer(["float16"], [("int8", 16)], "two")]
    intent = Intent(quantised=("one", "two", "three"), attentions=("softmax",))
    assert list(shortfalls(intent, layers)) == [
        "2 of 3 quantised products do not compute in 8 bits: two, three.",
        "1 of 1 attentions are not one fused kernel: softmax.",
    ]


def test_nothing_is_said_where_all_was_granted() -> None:
    intent = Intent(quantised=("proj_q", "proj_k", "proj_v", "out"), attentions=("softmax",))
    assert list(shortfalls(intent, dump("attention_int8"))) == []
    assert [said.partition(" q")[0] for said in shortfalls(intent, dump("attention_fp16"))] == [
        "4 of 4"
    ]


def test_many_names_are_cut_short() -> None:
    intent = Intent(quantised=tuple("abcde"), attentions=())
    assert list(shortfalls(intent, [])) == [
        "5 of 5 quantised products do not compute in 8 bits: a, b, c and 2 more."
    ]
