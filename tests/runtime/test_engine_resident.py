"""Buffers, states, bindings and graphs of engines on a GPU, with host memory in the GPU's place."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import AxisRange, StatePair
from animatic.engine import resident
from animatic.engine.contract import InputCheck
from animatic.engine.resident import ResidentGraph
from animatic.engine.states import PingPong, largest_bytes, state_bytes
from animatic.errors import DeviceLostError, EngineError
from tests.runtime.fake_model import tensor
from tests.runtime.host_cuda import HostCuda, refused
from tests.runtime.test_engine import SPEC, latents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.bundle import GraphSpec
    from animatic.engine.cuda import Stream

pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")

replace = msgspec.structs.replace
PROFILE = (
    AxisRange(axis="batch", minimum=1, optimum=1, maximum=1),
    AxisRange(axis="columns", minimum=1, optimum=4, maximum=8),
)
# As SPEC, with one more input whose size changes while a state is kept.
TWO = replace(SPEC, inputs=(*SPEC.inputs, tensor("extra", "float32", "tokens")))
TWO_PROFILE = (*PROFILE, AxisRange(axis="tokens", minimum=1, optimum=2, maximum=4))


class Sum:
    """frames = latents * 2 + state_0 (+ the sum of extra); the next state is the latents."""

    def __init__(self, cuda: HostCuda, *, capturable: bool = True) -> None:
        self.cuda = cuda
        self.capturable = capturable
        self.open = 0
        self.binds = 0

    def bind(self, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> BoundSum:
        self.binds += 1
        return BoundSum(self, dict(shapes), dict(addresses))

    def largest_output(self, name: str) -> int:
        assert name == "frames"
        return 3 * 8 * 4


class BoundSum:
    def __init__(
        self, owner: Sum, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]
    ) -> None:
        self.capturable = owner.capturable
        self._owner, self._shapes, self._addresses = owner, shapes, addresses
        owner.open += 1

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(self._addresses[name])
        return np.frombuffer(memoryview(memory), np.float32).reshape(shape)

    def enqueue(self, stream: Stream) -> None:
        assert self._owner.cuda.held[stream.handle] == "stream"
        self._owner.cuda.queue(self._compute)

    def _compute(self) -> None:
        shape = self._shapes["latents"]
        given = self._array("latents", shape)
        total = given * 2 + self._array("state_0", self._shapes["state_0"])
        if "extra" in self._shapes:
            total = total + self._array("extra", self._shapes["extra"]).sum()
        self._array("frames", shape)[...] = total
        self._array("next_state_0", shape)[...] = given

    def output_shape(self, _name: str) -> tuple[int, ...]:
        return self._shapes["latents"]

    def close(self) -> None:
        self._owner.open -= 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    host = HostCuda()
    monkeypatch.setattr("animatic.engine.cuda.call", host.call)
    return host


def graph(
    program: Sum, spec: GraphSpec = SPEC, profile: tuple[AxisRange, ...] = PROFILE
) -> ResidentGraph:
    return ResidentGraph(spec, profile, program, "run `animatic build BUNDLE --target rtx-40`")


def test_largest_bytes() -> None:
    assert largest_bytes(SPEC.inputs[0], PROFILE) == 3 * 8 * 4
    half = tensor("x", "float16", "batch", 5, "columns", "columns")
    assert largest_bytes(half, PROFILE) == 2 * 5 * 8 * 8
    assert largest_bytes(tensor("x", "int64"), ()) == 8
    assert largest_bytes(tensor("x", "uint8", 3, "height"), PROFILE) is None


def test_the_bytes_of_states_are_counted_once_each() -> None:
    assert state_bytes(SPEC, PROFILE) == 3 * 8 * 4
    assert state_bytes(replace(SPEC, states=()), PROFILE) == 0
    assert state_bytes(SPEC, PROFILE[:1]) is None
    # Self-Forcing at 480x832: 30 layers of keys and values, a window of 21 latent frames.
    axes = ("batch", 21, "rows", "columns", 384)
    keys = [tensor(f"kept_{i}", "float16", *axes) for i in range(60)]
    kept = tuple(StatePair(input=key.name, output=f"next_{key.name}") for key in keys)
    wan = replace(SPEC, role="denoiser", inputs=tuple(keys), states=kept)
    sizes = {"batch": 1, "rows": 60, "columns": 104}
    whole = [AxisRange(axis=a, minimum=1, optimum=1, maximum=n) for a, n in sizes.items()]
    assert state_bytes(wan, whole) == 6_038_323_200  # and two buffers of each on the device


def test_ping_pong_without_states_stays_in_place() -> None:
    states = PingPong(InputCheck(replace(SPEC, inputs=SPEC.inputs[:1], states=())))
    states.advance({"frames": (1, 3, 4)})
    assert (states.parity, states.shapes({"batch": 1})) == (0, {})


def test_ping_pong() -> None:
    states = PingPong(InputCheck(SPEC))
    axes = {"batch": 1, "columns": 4}
    assert states.fresh
    assert states.shapes(dict(axes)) == {"state_0": (1, 3, 4)}
    states.advance({"frames": (1, 3, 4), "next_state_0": (1, 3, 4)})
    assert (states.parity, states.fresh) == (1, False)
    with pytest.raises(EngineError, match=r"columns=6.*reset the engine first"):
        states.shapes({"batch": 1, "columns": 6})
    states.advance({"frames": (1, 3, 4), "next_state_0": (1, 3, 4)})
    assert states.parity == 0
    states.advance({"frames": (1, 3, 4), "next_state_0": (1, 3, 4)})
    states.forget()
    assert (states.parity, states.fresh) == (0, True)


@pytest.mark.parametrize("capturable", [True, False])
def test_states_stay_and_are_fed_back(cuda: HostCuda, *, capturable: bool) -> None:
    program = Sum(cuda, capturable=capturable)
    resident_graph = graph(program)
    for _clip in range(4):
        before = 0.0
        for value in (1.0, 5.0, 2.0, 7.0, 3.0):
            frames = resident_graph.run({"latents": latents(value)})
            assert frames.keys() == {"frames"}
            np.testing.assert_array_equal(frames["frames"], latents(value * 2 + before))
            before = value
        resident_graph.forget()
    assert program.binds == 2  # one for each place of the state
    assert cuda.calls["cudaStreamBeginCapture"] == (2 if capturable else 0)
    # Each binding's first run is not captured, of 20 runs.
    assert cuda.calls["cudaGraphLaunch"] == (18 if capturable else 0)
    assert cuda.calls["cudaMemsetAsync"] == 4  # once a clip, and only what is read
    resident_graph.close()
    resident_graph.close()
    assert not cuda.held
    assert program.open == 0


def test_results_are_the_callers_own(cuda: HostCuda) -> None:
    resident_graph = graph(Sum(cuda))
    first = resident_graph.run({"latents": latents(1)})["frames"]
    resident_graph.run({"latents": latents(9)})
    np.testing.assert_array_equal(first, latents(2))
    resident_graph.close()
    np.testing.assert_array_equal(first, latents(2))


def test_a_state_outlives_another_input_of_another_size(cuda: HostCuda) -> None:
    resident_graph = graph(Sum(cuda), TWO, TWO_PROFILE)
    before = 0.0
    for value, tokens in ((1.0, 2), (2.0, 3), (3.0, 1), (4.0, 4), (5.0, 2), (6.0, 3)):
        extra = np.full(tokens, 10, dtype=np.float32)
        frames = resident_graph.run({"latents": latents(value), "extra": extra})["frames"]
        np.testing.assert_array_equal(frames, latents(value * 2 + before + 10 * tokens))
        before = value
    resident_graph.close()
    assert not cuda.held


def test_bindings_are_bounded(cuda: HostCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "SLOTS", 3)
    program = Sum(cuda)
    resident_graph = graph(program)
    for columns in (1, 2, 3, 4, 5, 6, 7, 8, 7, 1):
        resident_graph.forget()
        for value in (1.0, 4.0):
            resident_graph.run({"latents": latents(value, columns)})
        frames = resident_graph.run({"latents": latents(4, columns)})["frames"]
        np.testing.assert_array_equal(frames, latents(12, columns))
        assert program.open <= 3
    held = len([name for name in cuda.held.values() if name == "executable"])
    assert held <= 3
    resident_graph.close()
    assert not cuda.held


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (latents(columns=9), r"built for 1 to 8 columns and is given 9; .*`animatic build"),
        (latents().astype(np.float64), "is float64; give float32"),
        (latents()[:, :2], r"shape \[1, 2, 4\]"),
        (np.concatenate([latents(), latents()]), "built for 1 to 1 batch and is given 2"),
    ],
)
def test_wrong_inputs_change_nothing(
    cuda: HostCuda, given: np.ndarray[Any, Any], sentence: str
) -> None:
    resident_graph = graph(Sum(cuda))
    with pytest.raises(EngineError, match=sentence):
        resident_graph.run({"latents": given})
    resident_graph.run({"latents": latents(1)})
    with pytest.raises(EngineError, match=sentence):
        resident_graph.run({"latents": given})
    np.testing.assert_array_equal(resident_graph.run({"latents": latents(0)})["frames"], latents(1))


def test_nothing_is_kept_when_any_call_of_the_opening_fails(cuda: HostCuda) -> None:
    graph(Sum(cuda)).close()
    calls = sum(cuda.calls.values())
    opening = calls - cuda.calls["cudaFree"] - cuda.calls["cudaFreeHost"] - 1
    assert opening == 7  # a stream; latents and frames, on both sides; a state's two
    for number in range(opening):
        fresh = HostCuda()
        cuda.__dict__.update(fresh.__dict__)
        cuda.fail = (number, refused())
        with pytest.raises(EngineError, match="refused for a test"):
            graph(Sum(cuda))
        assert not cuda.held, f"call {number}"


def test_a_capture_that_fails_is_given_up_once(cuda: HostCuda) -> None:
    program = Sum(cuda)
    resident_graph = graph(program)

    def refuse(*_: object) -> None:
        raise refused()

    cuda.__dict__["_cudaGraphInstantiate"] = refuse
    for value in (1.0, 0.0, 1.0, 0.0, 1.0):
        resident_graph.run({"latents": latents(value)})
    frames = resident_graph.run({"latents": latents(0)})["frames"]
    np.testing.assert_array_equal(frames, latents(1))
    assert cuda.calls["cudaGraphInstantiate"] == 2  # once for each place of the state
    assert cuda.calls["cudaGraphLaunch"] == 0
    resident_graph.close()
    assert not cuda.held


def test_a_lost_device_is_said_and_closed(cuda: HostCuda) -> None:
    program = Sum(cuda)
    resident_graph = graph(program)
    resident_graph.run({"latents": latents(1)})
    cuda.fail = (sum(cuda.calls.values()) + 1, DeviceLostError("gone"))
    with pytest.raises(DeviceLostError, match="gone"):
        resident_graph.run({"latents": latents(1)})
    resident_graph.forget()
    resident_graph.close()
    assert program.open == 0
    assert not cuda.held


def test_an_interrupted_run_is_waited_for(cuda: HostCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    resident_graph = graph(Sum(cuda))
    resident_graph.run({"latents": latents(1)})

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("animatic.engine.cuda.Stream.synchronise", interrupt)
        with pytest.raises(KeyboardInterrupt):
            resident_graph.run({"latents": latents(50)})
    resident_graph.forget()
    np.testing.assert_array_equal(resident_graph.run({"latents": latents(3)})["frames"], latents(6))
    resident_graph.close()
    assert not cuda.held


def test_a_state_that_comes_out_larger_gets_room(cuda: HostCuda) -> None:
    spec = replace(
        SPEC,
        outputs=(SPEC.outputs[0], tensor("longer", "float32", "batch", 5, "columns")),
        states=(StatePair(input="state_0", output="longer"),),
    )
    resident_graph = graph(Sum(cuda), spec)
    sizes = {len(memory) for memory in cuda._memory.values()}
    assert 5 * 8 * 4 in sizes
    resident_graph.close()
