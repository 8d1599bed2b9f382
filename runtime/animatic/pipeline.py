"""The way of a shot: prompt to tokens, tokens to text states, noise to latents, latents to frames.

There is one generator, `Pipeline.generate`; everything else that wants frames consumes it. Frames
are yielded as soon as their latent frame is decoded, so whoever reads slowly slows the work, and
whoever stops reading stops it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from animatic import __version__
from animatic.engine.choice import Choice, DeviceName, choose
from animatic.errors import BundleSchemaError, DeviceLostError, EngineError
from animatic.frame import Frame
from animatic.noise import NoiseStream
from animatic.record import GenerationRecord
from animatic.sampler import Sampler
from animatic.store import OpenBundle, open_bundle, verify_files
from animatic.tokenizer import BundleTokenizer, Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Mapping

    import numpy.typing as npt

    from animatic.bundle import Role
    from animatic.engine import Engine
    from animatic.shot import Shot, ShotPlan

__all__ = ["Pipeline", "Progress"]

_log = logging.getLogger(__name__)

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
        self,
        bundle: OpenBundle,
        tokenizer: Tokenizer,
        engines: Mapping[Role, Engine],
        *,
        choice: Choice | None = None,
        spare: Callable[[], Choice] | None = None,
    ) -> None:
        """Chain engines that are already open; `Pipeline.open` is the usual way.

        engines: a text_encoder, a denoiser and a vae_decoder; the pipeline closes them.
        choice: how they were chosen. spare: opens others to go on with when the GPU is lost.
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
        self._choice = choice
        self._spare = spare
        self._preview = False
        self._sampler = Sampler(bundle.bundle.sampler)
        # [1, channels, 1, 1, 1], to broadcast over the latents.
        stats = bundle.bundle.latents
        self._mean = np.array(stats.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._std = np.array(stats.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        self._takes_mask = any(t.name == "text_mask" for t in engines["denoiser"].spec.inputs)
        self._text: tuple[str, dict[str, npt.NDArray[Any]]] | None = None
        # Two clips at a time would mix their states in the engines.
        self._busy = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        device: DeviceName = "auto",
        precision: str | None = None,
        threads: int | None = None,
        verify: bool = True,
        fallback: bool = False,
    ) -> Self:
        """Load a bundle, by default the built-in one, on the best device that there is.

        device: "auto", or one that must be used: "cpu", "cuda" (an NVIDIA GPU, by whatever plays
            best on it), or one way to use that: "tensorrt", "tensorrt_rtx", "onnxruntime-cuda".
        precision: what to compute in, such as "fp16" or "int8"; None takes what suits the device.
        threads: on the processor, at most this many for each graph; None takes every core we may
            use.
        verify: hash the files that are loaded first.
        fallback: when the GPU is lost in mid-clip, go on with the processor (`Frame.preview`)
            instead of raising DeviceLostError.
        Raises BundleError or EngineError.
        """
        opened = open_bundle(bundle, verify=False)
        text = opened.bundle.text
        if verify:
            verify_files(opened, {text.tokenizer.file})
        tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
        choice = choose(opened, device, precision, threads=threads, verify=verify)
        spare = partial(choose, opened, "cpu", threads=threads, verify=verify)
        try:
            return cls(
                opened, tokenizer, choice.engines, choice=choice, spare=spare if fallback else None
            )
        except BaseException:
            for engine in choice.engines.values():
                engine.close()
            raise

    @property
    def bundle(self) -> OpenBundle:
        """The model that this pipeline runs."""
        return self._opened

    @property
    def choice(self) -> Choice | None:
        """Which backend plays the model and why; None if the engines came from outside."""
        return self._choice

    def generate(
        self, shot: Shot, *, on_progress: Callable[[Progress], None] | None = None
    ) -> Generator[Frame, None, None]:
        """Make a clip, one frame at a time, in order.

        The shot is checked by the call itself (ShotError); the work happens as frames are asked
        for. Closing the generator stops the work and resets the engines. EngineError when a graph
        fails, or when another clip of this pipeline is still under way; DeviceLostError when the
        GPU is lost, unless the pipeline was opened with a fallback.

        on_progress: called after every unit of work, in the thread that asks for frames; it counts
            from the beginning again where the fallback does.
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
        bundle = self._opened.bundle
        backend = "onnxruntime" if self._choice is None else self._choice.backend
        played = [engine.spec for engine in self._engines.values()]
        usual = backend == "onnxruntime" and all(s == bundle.graph(s.role) for s in played)
        hashes = "".join(sorted(spec.sha256 for spec in played))
        return GenerationRecord.of(
            shot.plan(bundle),
            bundle_name=bundle.name,
            bundle_sha256=self._opened.digest,
            animatic_version=__version__,
            backend=backend,
            precision="" if usual else self._engines["denoiser"].spec.precision,
            graphs_sha256="" if usual else hashlib.sha256(hashes.encode()).hexdigest(),
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
            yield from self._whatever_happens(plan, on_progress)
        finally:
            for engine in self._engines.values():
                engine.reset()
            self._busy.release()

    def _whatever_happens(
        self, plan: ShotPlan, on_progress: Callable[[Progress], None]
    ) -> Iterator[Frame]:
        """Make the clip, if need be from the beginning again on the spare engines.

        As the noise is the seed's, they draw the same shot: what was already shown is passed over.
        """
        shown = 0
        spare: Choice | None = None
        try:
            for frame in self._pictures(plan, on_progress):
                yield frame
                shown += 1
        except DeviceLostError as error:
            if self._spare is None:
                raise
            _log.warning("%s The clip goes on as a preview, on the processor.", error)
            spare = self._spare()
        if spare is None:
            return
        for engine in self._engines.values():
            engine.close()
        self._engines, self._text = dict(spare.engines), None
        reason = f"{spare.reason} It stands in for a GPU that was lost."
        self._choice = replace(spare, reason=reason, is_fallback=True)
        self._spare, self._preview = None, True
        for frame in self._pictures(plan, on_progress):
            if frame.index >= shown:
                yield frame

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
                velocity = self._engines["denoiser"].run(inputs)["velocity"]
                x = self._sampler.step(step, x, velocity, partial(noise.fresh, block, step, shape))
                done += 1
                on_progress(Progress(done, total, "denoise"))
            raw = x * self._std + self._mean
            for frame in range(block_frames):
                latents = {"latents": raw[:, :, frame : frame + 1]}
                decoded = self._engines["vae_decoder"].run(latents)["frames"]
                done += 1
                on_progress(Progress(done, total, "decode"))
                first = geometry.decoder_trim if index == 0 else 0
                for pixels in _to_pixels(decoded, expected)[first:]:
                    yield Frame(index, pixels, index / plan.fps, self._preview)
                    index += 1

    def _encode(self, prompt: str) -> dict[str, npt.NDArray[Any]]:
        """Make the denoiser's text inputs; the last prompt's are kept, as it often comes again."""
        if self._text is not None and self._text[0] == prompt:
            return self._text[1]
        tokens = self._tokenizer.encode(prompt)
        states = self._engines["text_encoder"].run(
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
