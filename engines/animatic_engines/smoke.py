"""An engine's first run, where its card is at hand: whether it loads and gives numbers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from animatic.errors import EngineError
from animatic_engines.compiler import RefusalError
from animatic_engines.messages import Ran
from animatic_engines.profiles import shapes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from animatic_engines.messages import SmokeJob

__all__ = ["inputs_for", "run_once"]


def run_once(job: SmokeJob) -> Ran:
    """Load the engine, run it once at its usual sizes, and look at what it gives.

    Whether it gives the right numbers is for `animatic verify` to say. RefusalError if it does not
    run, or gives something else than finite numbers.
    """
    from animatic.engine.tensorrt import TensorRtEngine

    try:
        engine = TensorRtEngine(Path(job.plan), job.spec, job.entry)
    except EngineError as error:
        raise RefusalError("device", str(error)) from error
    try:
        begun = time.monotonic()
        outputs = engine.run(inputs_for(job))
        seconds = time.monotonic() - begun
    except EngineError as error:
        raise RefusalError("device", str(error)) from error
    finally:
        engine.close()
    _look_at(outputs)
    return Ran(seconds=round(seconds, 6))


def inputs_for(job: SmokeJob) -> dict[str, npt.NDArray[np.generic]]:
    """Make inputs of the sizes that the engine is tuned for; states are the engine's own.

    Ones for whole numbers (token ids, masks that leave nothing out), zeros for the rest.
    """
    states = {pair.input for pair in job.spec.states}
    inputs: dict[str, npt.NDArray[np.generic]] = {}
    for tensor in job.spec.inputs:
        if tensor.name in states:
            continue
        shape = shapes_of(tensor, job.entry.profile).optimum
        whole = np.issubdtype(np.dtype(tensor.dtype), np.integer)
        inputs[tensor.name] = np.full(shape, 1 if whole else 0, dtype=tensor.dtype)
    return inputs


def _look_at(outputs: Mapping[str, npt.NDArray[np.generic]]) -> None:
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise RefusalError("device", f"its output {name!r} holds values that are not numbers")
