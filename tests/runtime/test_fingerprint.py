from __future__ import annotations

from typing import Any

import msgspec
import pytest

from animatic.bundle import AxisRange, EngineEntry, FileRef
from animatic.fingerprint import engine_fingerprint, fresh, graph_digest
from tests.runtime.fake_model import DENOISER, ZEROS

replace = msgspec.structs.replace
TOKENS = AxisRange(axis="tokens", minimum=1, optimum=16, maximum=40)
BATCH = AxisRange(axis="batch", minimum=1, optimum=1, maximum=1)
GRAPH = replace(DENOISER, external_data=(FileRef(file="w.data", sha256="1" * 64),))


def entry(**changes: Any) -> EngineEntry:
    made = EngineEntry(
        role=GRAPH.role,
        precision=GRAPH.precision,
        target="rtx-40",
        backend="tensorrt_rtx",
        backend_version="1.7.1.116",
        profile=(BATCH, TOKENS),
        flags={"workspace": "1"},
        file="engines/rtx-40/denoiser.plan",
        sha256=ZEROS,
        fingerprint=engine_fingerprint(
            GRAPH,
            target="rtx-40",
            backend="tensorrt_rtx",
            backend_version="1.7.1.116",
            profile=(TOKENS, BATCH),
            flags={"workspace": "1"},
        ),
        sidecar=FileRef(file="engines/rtx-40/denoiser.json", sha256=ZEROS),
    )
    return replace(made, **changes)


def test_the_order_of_axes_and_the_plan_itself_do_not_matter() -> None:
    assert fresh(entry(), GRAPH)
    assert fresh(entry(sha256="2" * 64, file="elsewhere.plan"), GRAPH)


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "rtx-50"},
        {"backend": "tensorrt"},
        {"backend_version": "1.7.1.117"},
        {"profile": (BATCH, replace(TOKENS, maximum=41))},
        {"flags": {"workspace": "2"}},
        {"flags": {}},
    ],
)
def test_whatever_goes_into_a_build_changes_it(changes: dict[str, Any]) -> None:
    assert not fresh(entry(**changes), GRAPH)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "3" * 64},
        {"precision": "int8"},
        {"external_data": (FileRef(file="w.data", sha256="4" * 64),)},
        {"external_data": ()},
    ],
)
def test_another_graph_or_other_weights_make_it_stale(changes: dict[str, Any]) -> None:
    assert not fresh(entry(), replace(GRAPH, **changes))


def test_the_digest_of_a_graph_is_of_all_its_files() -> None:
    two = (FileRef(file="a.data", sha256="1" * 64), FileRef(file="b.data", sha256="2" * 64))
    swapped = (replace(two[0], sha256="2" * 64), replace(two[1], sha256="1" * 64))
    different = [
        DENOISER,
        GRAPH,
        replace(GRAPH, sha256="1" * 64),
        replace(GRAPH, external_data=(FileRef(file="w.data", sha256="2" * 64),)),
        replace(GRAPH, external_data=two),
        replace(GRAPH, external_data=swapped),
    ]
    assert len({graph_digest(graph) for graph in different}) == len(different)
    same = [replace(GRAPH, external_data=two), replace(GRAPH, external_data=two[::-1])]
    same += [replace(same[0], file="moved.onnx", made_from="x", architecture="{}")]
    assert len({graph_digest(graph) for graph in same}) == 1
