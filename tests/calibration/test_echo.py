from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from animatic.bundle import GraphSpec
from animatic_calibration.echo import Echo

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEC = GraphSpec(role="denoiser", file="-", sha256="0" * 64, precision="-", inputs=(), outputs=())


class Counting:
    """Doubles, and counts what it was asked."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.runs = self.resets = self.closed = 0

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        self.runs += 1
        return {"double": 2 * inputs["x"]}

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed += 1


def test_it_asks_once_and_lets_the_engine_go() -> None:
    opened: list[Counting] = []

    def opener() -> Counting:
        opened.append(Counting())
        return opened[-1]

    echo = Echo(SPEC, opener)
    echo.reset()
    echo.close()
    assert not opened
    x, y = np.arange(3), np.arange(3) + 1
    for _ in range(2):
        assert echo.run({"x": x})["double"].tolist() == [0, 2, 4]
    assert echo.run({"x": y})["double"].tolist() == [2, 4, 6]
    echo.reset()
    assert [(e.runs, e.resets) for e in opened] == [(2, 1)]
    echo.close()
    assert echo.run({"x": x})["double"].tolist() == [0, 2, 4]
    assert len(opened) == 1
    assert echo.run({"x": x.astype(np.float32)})["double"].dtype == np.float32
    assert [e.closed for e in opened] == [1, 0]


def test_the_same_bytes_in_another_shape_are_something_else() -> None:
    engine = Counting()
    echo = Echo(SPEC, lambda: engine)
    echo.run({"x": np.zeros((2, 3))})
    assert echo.run({"x": np.zeros((3, 2))})["double"].shape == (3, 2)
    assert engine.runs == 2
