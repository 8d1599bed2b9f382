"""An engine's first run, on a stand-in for the card and, where there is one, on a card."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from animatic.bundle import AxisRange, EngineEntry, StatePair, TensorSpec
from animatic.errors import EngineError, TargetError
from animatic.store import open_bundle
from animatic.targets import find_target
from animatic_engines.compiler import RefusalError
from animatic_engines.messages import Failed, Ran, SmokeJob
from animatic_engines.shelf import building
from animatic_engines.smoke import run_once
from tests.engines.building import build, entry_for, needs_compiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic.bundle import GraphSpec

replace = msgspec.structs.replace


class FakeTensorRtEngine:
    """Stands for animatic.engine.tensorrt's engine, which needs a card."""

    opened: tuple[Path, GraphSpec, EngineEntry]
    given: dict[str, np.ndarray]
    closed = False
    answer: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

    def __init__(self, plan: Path, spec: GraphSpec, entry: EngineEntry) -> None:
        type(self).opened = (plan, spec, entry)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        type(self).given = inputs
        return type(self).answer(inputs)

    def close(self) -> None:
        type(self).closed = True


@pytest.fixture
def smoke(bundle: Path, tmp_path: Path) -> SmokeJob:
    graph = open_bundle(bundle).bundle.graph("denoiser", "fp16")
    state = TensorSpec(name="state", dtype="float16", shape=("batch", 4))
    ids = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens"))
    graph = replace(
        graph,
        inputs=(*graph.inputs, ids, state),
        states=(StatePair(input="state", output="next_state"),),
    )
    profile = (
        AxisRange(axis="batch", minimum=1, optimum=1, maximum=1),
        AxisRange(axis="tokens", minimum=1, optimum=16, maximum=40),
    )
    entry = replace(entry_for(graph, tmp_path, b"")[0], profile=profile)
    return SmokeJob(plan="a.plan", spec=graph, entry=entry)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeTensorRtEngine]:
    module = ModuleType("animatic.engine.tensorrt")
    fake = type("Engine", (FakeTensorRtEngine,), {})
    module.TensorRtEngine = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "animatic.engine.tensorrt", module)
    return fake


def test_a_first_run_feeds_usual_sizes_and_no_states(
    smoke: SmokeJob, engine: type[FakeTensorRtEngine]
) -> None:
    engine.answer = staticmethod(lambda _inputs: {"velocity": np.zeros(3, np.float32)})
    assert isinstance(run_once(smoke), Ran)
    assert engine.opened == (Path("a.plan"), smoke.spec, smoke.entry)
    assert {name: (a.shape, a.dtype.name, a.max()) for name, a in engine.given.items()} == {
        "text_states": ((1, 16, 64), "float32", 0),
        "input_ids": ((1, 16), "int64", 1),
    }
    assert engine.closed


def test_a_first_run_that_fails_or_gives_no_numbers(
    smoke: SmokeJob, engine: type[FakeTensorRtEngine]
) -> None:
    def refuse(_inputs: object) -> dict[str, np.ndarray]:
        raise EngineError("The driver is too old.")

    engine.answer = staticmethod(refuse)
    with pytest.raises(RefusalError, match=r"The driver is too old"):
        run_once(smoke)
    assert engine.closed
    engine.answer = staticmethod(lambda _inputs: {"velocity": np.array([np.nan], np.float32)})
    with pytest.raises(RefusalError, match=r"'velocity' holds values that are not numbers"):
        run_once(smoke)


def test_an_engine_that_does_not_run_here_is_not_published(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from animatic_engines import single
    from animatic_engines.choices import Backend
    from animatic_engines.order import Order

    opened = open_bundle(bundle).bundle
    graph = opened.graph("denoiser", "fp16")
    order = Order.of(opened, graph, find_target("rtx-40"), Backend("tensorrt_rtx", "1"))
    with building(bundle) as folder:
        entry, _files = entry_for(graph, folder, b"plan")
        failed = Failed(kind="device", reason="the driver is too old")
        monkeypatch.setattr(single, "ask", lambda *_, **__: failed)
        words = r"^The fp16 denoiser for rtx-40 was built, but does not run on the RTX here: the dr"
        with pytest.raises(EngineError, match=words):
            single._run(entry, order, folder, "RTX")


@pytest.mark.device
def test_a_new_engine_is_run_on_the_card_that_is_here(bundle: Path) -> None:
    needs_compiler()
    from animatic.detect import detect_target

    try:
        target = detect_target().target
    except TargetError as error:
        pytest.skip(str(error))
    if not any(backend.name == "tensorrt_rtx" for backend in target.backends):
        pytest.skip(f"TensorRT-RTX does not serve {target.name}")
    (found,) = build(bundle, target=target.name)
    assert found.not_run == ""
    assert found.sidecar.ran_on
