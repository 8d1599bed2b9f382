"""How far two engines of one role are apart, on inputs that any graph of that role takes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from animatic.bundle import DECODER_ROLES
from animatic.errors import EngineError
from animatic.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from animatic.bundle import AxisRange, GraphSpec, TensorSpec
    from animatic.engine import Engine
    from animatic.store import OpenBundle

    Tensors = dict[str, npt.NDArray[Any]]

__all__ = ["random_inputs", "relative_error"]

RUNS: Final = 2  # the second run reads the states that the first one left
SEED: Final = 0


def relative_error(
    engine: Engine, reference: Engine, inputs: Iterator[Tensors], *, runs: int = RUNS
) -> float:
    """Run both on the same inputs, states carried, and return the largest error of an output.

    The error is the L2 norm of the difference, divided by that of the reference's output; NaN or
    infinite if an output is. EngineError if either fails.
    """
    engine.reset()
    reference.reset()
    worst = 0.0
    for _ in range(runs):
        given = next(inputs)
        actual, expected = engine.run(given), reference.run(given)
        for name, wanted in expected.items():
            if name not in actual or actual[name].shape != wanted.shape:
                raise EngineError(
                    f"The {reference.spec.role} gives no {name} of the shape {list(wanted.shape)}; "
                    "build the engine again."
                )
            wide = wanted.astype(np.float64)
            apart = float(np.linalg.norm(actual[name].astype(np.float64) - wide))
            size = float(np.linalg.norm(wide))
            error = apart / size if size else apart
            worst = error if np.isnan(error) else max(worst, error)
            if np.isnan(worst):
                return worst
    return worst


def random_inputs(
    opened: OpenBundle, graph: GraphSpec, profile: tuple[AxisRange, ...]
) -> Iterator[Tensors]:
    """Make seeded inputs for a graph without end, of the sizes that an engine is tuned for.

    They are such as a clip gives, block after block: noise of the model's own scale, one of the
    sampler's timesteps, tokens of its vocabulary, masks of ones, the block's place in the clip
    and in its window, light from 0 to 1.
    EngineError if the profile lacks an axis.
    """
    sizes = {axis.axis: axis.optimum for axis in profile}
    carried = {pair.input for pair in graph.states}
    tensors = [tensor for tensor in graph.inputs if tensor.name not in carried]
    for tensor in tensors:
        for axis in tensor.shape:
            if isinstance(axis, str) and axis not in sizes:
                raise EngineError(
                    f"The engine's profile does not say how large the axis {axis} of "
                    f"{tensor.name} is; build the engine again."
                )
    shapes = {
        tensor.name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)
        for tensor in tensors
    }
    tokens = _vocabulary(opened) if "input_ids" in shapes else 0
    generator = np.random.Generator(np.random.Philox(SEED))
    for block in itertools.count():
        given = {
            tensor.name: _values(opened, graph, tensor, shapes, tokens, generator)
            for tensor in tensors
        }
        if "positions" in given:
            _lay_out(given, opened.bundle.geometry.block_latent_frames)
        if "position" in given:
            given["position"][...] = block * opened.bundle.geometry.block_latent_frames
        yield given


def _lay_out(given: Tensors, block: int) -> None:
    """Make a window of the denoiser's inputs: what is beyond a block was given, in front of it."""
    frames = given["positions"].shape[1]
    before = max(0, frames - block)
    given["positions"][...] = np.arange(frames) + (1 if before else 0)
    given["timesteps"][:, :before] = 0


def _values(
    opened: OpenBundle,
    graph: GraphSpec,
    tensor: TensorSpec,
    shapes: Mapping[str, tuple[int, ...]],
    tokens: int,
    generator: np.random.Generator,
) -> npt.NDArray[Any]:
    shape = shapes[tensor.name]
    values: npt.NDArray[Any]
    match tensor.name, tensor.dtype:
        case "input_ids", _:
            values = generator.integers(0, tokens, shape)
        case "timesteps", _:
            steps = Sampler(opened.bundle.sampler)
            values = np.full(shape, steps.timestep(int(generator.integers(len(steps)))))
        case "frames", _:  # pictures for an encoder
            values = generator.random(shape)
        case _, "int64":
            values = np.ones(shape)
        case _, "uint8":
            values = generator.integers(0, 256, shape)
        case _:
            values = generator.standard_normal(shape)
    if graph.role in DECODER_ROLES and tensor.name == "latents":  # raw ones
        mean, std = (np.array(part).reshape(1, -1, 1, 1, 1) for part in _stats(opened))
        values = values * std + mean
    return values.astype(tensor.dtype)


def _stats(opened: OpenBundle) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return opened.bundle.latents.mean, opened.bundle.latents.std


def _vocabulary(opened: OpenBundle) -> int:
    """How many tokens the text encoder knows."""
    from tokenizers import Tokenizer

    file = opened.path(opened.bundle.text.tokenizer.file)
    try:
        return int(Tokenizer.from_file(str(file)).get_vocab_size())
    except Exception as error:  # tokenizers raises bare Exception
        raise EngineError(
            f"The tokenizer {file} cannot be read; export the bundle again."
        ) from error
