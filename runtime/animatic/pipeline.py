"""The way of a shot: prompt to tokens, tokens to text states, noise to latents, latents to frames.

There is one generator, `Pipeline.generate`; everything else that wants frames consumes it. Frames
are yielded as soon as their latent frame is decoded, so whoever reads slowly slows the work, and
whoever stops reading stops it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from animatic import __version__
from animatic.engine import OnnxRuntimeEngine
from animatic.errors import BundleSchemaError, EngineError
from animatic.frame import Frame
from animatic.noise import NoiseStream
from animatic.record import GenerationRecord
from animatic.sampler import Sampler
from animatic.store import OpenBundle, open_bundle
from animatic.tokenizer import BundleTokenizer, Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Mapping

    import numpy.typing as npt

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.shot import Shot, ShotPlan

__all__ = ["Pipeline", "Progress"]

# The tensors by which the pipeline knows the graphs of every family: inputs, then outputs.
_TENSORS: Final[Mapping[Role, tuple[frozenset[str], frozenset[str]]]] = {
    "text_encoder": (frozenset({"input_ids", "attention_mask"}), frozenset({"text_states"})),
    "denoiser": (frozenset({"latents", "timesteps", "text_states"}), frozenset({"velocity"})),
    "vae_decoder": (frozenset({"latents"}), frozenset({"frames"})),
}


class Progress(NamedTuple):
    """How far a clip is: `done` of `total` units of work.

    A unit is the text, one denoiser step of one block, or one decoded latent frame; `stage` is
    "text", "denoise" or "decode", the kind of the unit just done.
    """

    done: int
    total: int
    stage: str


class Pipeline:
    """A model, ready to make clips; one at a time."""

    def __init__(
        self, bundle: OpenBundle, tokenizer: Tokenizer, engines: Mapping[Role, Engine]
    ) -> None:
        """Chain engines that are already open; `Pipeline.open` is the usual way.

        engines: a text_encoder, a denoiser and a vae_decoder; the pipeline closes them.
        BundleSchemaError if a graph is missing or is not one that the pipeline can drive.
        """
        for role, (inputs, outputs) in _TENSORS.items():
            if role not in engines:
                raise BundleSchemaError(
                    f"The bundle {bundle.bundle.name} has no {role} graph; export the bundle "
                    "again with one."
                )
            spec = engines[role].spec
            absent = inputs - {tensor.name for tensor in spec.inputs}
            absent |= outputs - {tensor.name for tensor in spec.outputs}
            if absent:
                raise BundleSchemaError(
                    f"The {role} graph of the bundle {bundle.bundle.name} has no tensor "
                    f"{min(absent)}; export the bundle again."
                )
        self._opened = bundle
        self._tokenizer = tokenizer
        self._engines = dict(engines)
        self._text_encoder = engines["text_encoder"]
        self._denoiser = engines["denoiser"]
        self._decoder = engines["vae_decoder"]
        self._sampler = Sampler(bundle.bundle.sampler)
        # [1, channels, 1, 1, 1], to broadcast over the latents.
        stats = bundle.bundle.latents
        self._mean = np.array(stats.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._std = np.array(stats.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._takes_mask = any(t.name == "text_mask" for t in self._denoiser.spec.inputs)
        self._text: tuple[str, dict[str, npt.NDArray[Any]]] | None = None
        # Two clips at a time would mix their states in the engines.
        self._busy = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        verify: bool = True,
    ) -> Self:
        """Load a bundle, by default the built-in one, on the processor.

        threads: at most this many for each graph; None takes every core we may use.
        verify: hash the bundle's files first.
        Raises BundleError or EngineError.
        """
        opened = open_bundle(bundle, verify=verify)
        text = opened.bundle.text
        tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
        engines: dict[Role, Engine] = {}
        try:
            for role in _TENSORS:
                spec = opened.bundle.graph(role)
                path = opened.path(spec.file)
                engines[role] = OnnxRuntimeEngine(path, spec, threads=threads)
            return cls(opened, tokenizer, engines)
        except BaseException:
            for engine in engines.values():
                engine.close()
            raise

    @property
    def bundle(self) -> OpenBundle:
        """The model that this pipeline runs."""
        return self._opened

    def generate(
        self, shot: Shot, *, on_progress: Callable[[Progress], None] | None = None
    ) -> Generator[Frame, None, None]:
        """Make a clip, one frame at a time, in order.

        The shot is checked by the call itself (ShotError); the work happens as frames are asked
        for. Closing the generator stops the work and resets the engines. EngineError when a graph
        fails, or when another clip of this pipeline is still under way.

        on_progress: called after every unit of work, in the thread that asks for frames.
        """
        if self._closed:
            raise EngineError("The pipeline is closed; open it again.")
        plan = shot.plan(self._opened.bundle)
        return self._frames(plan, on_progress or _ignore)

    def clip(self, shot: Shot) -> npt.NDArray[np.uint8]:
        """Make a whole clip at once: uint8 [frames, height, width, 3], RGB, 0-255."""
        return np.stack([frame.pixels for frame in self.generate(shot)])

    def record(self, shot: Shot) -> GenerationRecord:
        """Say what to store with a clip so that it can be made again; ShotError as `generate`."""
        return GenerationRecord.of(
            shot.plan(self._opened.bundle),
            bundle_name=self._opened.bundle.name,
            bundle_sha256=self._opened.digest,
            animatic_version=__version__,
        )

    def close(self) -> None:
        """Free the engines; closing twice is allowed."""
        self._closed = True
        self._text = None
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def _frames(
        self, plan: ShotPlan, on_progress: Callable[[Progress], None]
    ) -> Generator[Frame, None, None]:
        if not self._busy.acquire(blocking=False):
            raise EngineError(
                "This pipeline is already making a clip; finish or close that one first, or open "
                "another pipeline."
            )
        try:
            yield from self._pictures(plan, on_progress)
        finally:
            for engine in self._engines.values():
                engine.reset()
            self._busy.release()

    def _pictures(self, plan: ShotPlan, on_progress: Callable[[Progress], None]) -> Iterator[Frame]:
        geometry = self._opened.bundle.geometry
        channels, latent_frames, rows, columns = plan.latent_shape
        block_frames = min(geometry.block_latent_frames, latent_frames)
        blocks = latent_frames // block_frames
        total = 1 + blocks * len(self._sampler) + latent_frames
        noise = NoiseStream(plan.seed, plan.variant)

        text = self._encode(plan.prompt)
        done = 1
        on_progress(Progress(done, total, "text"))
        expected = (1, 3, geometry.temporal_factor, plan.height, plan.width)
        index = 0
        # What a block knows of the one before it is what the denoiser's own state pairs carry.
        for block in range(blocks):
            shape = (1, channels, block_frames, rows, columns)
            x = self._sampler.start(noise.initial(block, shape))
            for step in range(len(self._sampler)):
                timestep = self._sampler.timestep(step)
                inputs = {
                    "latents": x,
                    "timesteps": np.full((1, block_frames), timestep, dtype=np.float32),
                    **text,
                }
                velocity = self._denoiser.run(inputs)["velocity"]
                x = self._sampler.step(step, x, velocity, partial(noise.fresh, block, step, shape))
                done += 1
                on_progress(Progress(done, total, "denoise"))
            raw = x * self._std + self._mean
            for frame in range(block_frames):
                decoded = self._decoder.run({"latents": raw[:, :, frame : frame + 1]})["frames"]
                done += 1
                on_progress(Progress(done, total, "decode"))
                first = geometry.decoder_trim if index == 0 else 0
                for pixels in _to_pixels(decoded, expected)[first:]:
                    yield Frame(index, pixels, index / plan.fps)
                    index += 1

    def _encode(self, prompt: str) -> dict[str, npt.NDArray[Any]]:
        """Make the denoiser's text inputs; the last prompt's are kept, as it often comes again."""
        if self._text is not None and self._text[0] == prompt:
            return self._text[1]
        tokens = self._tokenizer.encode(prompt)
        states = self._text_encoder.run(
            {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        )
        text = {"text_states": states["text_states"]}
        if self._takes_mask:
            text["text_mask"] = tokens.attention_mask
        self._text = (prompt, text)
        return text


def _ignore(progress: Progress) -> None:
    """Nobody asked how far we are."""


def _to_pixels(
    decoded: npt.NDArray[np.float32], expected: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """From the decoder's [1, 3, frames, height, width] in [0, 1] to uint8 [frames, h, w, 3]."""
    if decoded.shape != expected:
        raise EngineError(
            f"The decoder gave the shape {list(decoded.shape)} and bundle.json promises "
            f"{list(expected)}; export the bundle again."
        )
    if not np.isfinite(decoded).all():
        raise EngineError(
            "The decoder gave values that are not numbers; try another seed, or export the "
            "model again in float32."
        )
    pixels = (decoded[0] * 255).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))
