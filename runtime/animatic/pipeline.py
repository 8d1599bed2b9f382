"""The way of a shot: prompt to tokens, tokens to text states, noise to latents, latents to frames.

There is one generator, `Pipeline.generate`; everything else that wants frames consumes it. Frames
are yielded as soon as their latent frame is decoded, so whoever reads slowly slows the work, and
whoever stops reading stops it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from animatic import __version__
from animatic.blocks import Clip, Players, Progress
from animatic.bundle import DECODER_ROLES
from animatic.decoding import Decoder
from animatic.denoising import Denoiser
from animatic.encoding import Encoder
from animatic.engine.choice import Choice, DeviceName, TextDevice, choose
from animatic.errors import BundleSchemaError, DeviceLostError, EngineError
from animatic.fingerprint import graph_digest
from animatic.frame import Frame
from animatic.record import GenerationRecord
from animatic.roles import OPTIONAL, TENSORS, misfit
from animatic.store import OpenBundle, open_bundle, verify_files
from animatic.text_inputs import TextInputs
from animatic.tokenizer import BundleTokenizer, Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Mapping
    from typing import Literal

    import numpy.typing as npt

    from animatic.bundle import Bundle, GraphSpec, Role
    from animatic.engine import Engine
    from animatic.given import GivenPictures
    from animatic.shot import Shot, ShotPlan

__all__ = ["Pipeline", "Progress"]

_log = logging.getLogger(__name__)


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
        text_device: TextDevice = "auto",
    ) -> None:
        """Chain engines that are already open; `Pipeline.open` is the usual way.

        engines: a text_encoder, a denoiser, a vae_decoder, perhaps a tiny_decoder and, for shots
            that are given pictures, a vae_encoder; the pipeline closes them.
        choice: how they were chosen. spare: opens others to go on with when the GPU is lost.
        text_device: where the text encoder was asked to play.
        BundleSchemaError if a graph is missing or is not one that the pipeline can drive.
        """
        self._opened = bundle
        self._tokenizer = tokenizer
        self._choice = choice
        self._spare = spare
        self._text_device = text_device
        self._fallen_back = False
        self._chain(engines)
        # Two clips at a time would mix their states in the engines.
        self._busy = threading.Lock()
        self._closed = False

    def _chain(self, engines: Mapping[Role, Engine]) -> None:
        bundle = self._opened.bundle
        _check(bundle, {role: engine.spec for role, engine in engines.items()})
        self._engines = dict(engines)
        self._denoiser = Denoiser(engines["denoiser"])
        self._text = TextInputs(
            self._opened,
            self._tokenizer,
            engines["text_encoder"],
            keep=self._text_device != "gpu",
        )
        self._decoders = {r: Decoder(bundle, engines[r]) for r in DECODER_ROLES if r in engines}
        encoder = engines.get("vae_encoder")
        self._encoder = None if encoder is None else Encoder(bundle, encoder)

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
        text_device: TextDevice = "auto",
    ) -> Self:
        """Load a bundle, by default the built-in one, on the best device that there is.

        device: "auto", or one that must be used: "cpu", "cuda" (an NVIDIA GPU, by whatever plays
            best on it), or one way to use that: "tensorrt", "tensorrt_rtx", "onnxruntime-cuda".
        precision: what to compute in, such as "fp16" or "int8"; None takes what suits the device.
        threads: on the processor, at most this many for each graph; None takes every core we may
            use.
        verify: hash the files that are loaded first.
        fallback: when the GPU is lost in mid-clip, go on with the processor (`Frame.fallback`)
            instead of raising DeviceLostError.
        text_device: where the text encoder plays; "cpu", "gpu", or "auto": on the processor if the
            bundle says that it is costly, else where the rest does.
        Raises BundleError or EngineError.
        """
        opened = open_bundle(bundle, verify=False)
        text = opened.bundle.text
        if verify:
            verify_files(opened, {text.tokenizer.file})
        tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
        choice = choose(
            opened, device, precision, threads=threads, verify=verify, text_device=text_device
        )
        spare = partial(choose, opened, "cpu", threads=threads, verify=verify)
        try:
            return cls(
                opened,
                tokenizer,
                choice.engines,
                choice=choice,
                spare=spare if fallback else None,
                text_device=text_device,
            )
        except BaseException:
            _close(choice.engines)
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

        The shot is checked and what it is given is read by the call itself (ShotError, InputError);
        the work happens as frames are asked for. Closing the generator stops the work and resets
        the engines. EngineError when a graph fails, or when another clip of this pipeline is still
        under way; DeviceLostError when the GPU is lost, unless the pipeline was opened with a
        fallback.

        on_progress: called after every unit of work, in the thread that asks for frames; it counts
            from the beginning again where the fallback does.
        """
        if self._closed:
            raise EngineError("The pipeline is closed; open it again.")
        plan = shot.plan(self._opened.bundle)
        self._played(plan)
        given = self._read(plan)
        return self._frames(plan, given, on_progress or _ignore)

    def clip(self, shot: Shot) -> npt.NDArray[np.uint8]:
        """Make a whole clip at once: uint8 [frames, height, width, 3], RGB, 0-255."""
        return np.stack([frame.pixels for frame in self.generate(shot)])

    def record(self, shot: Shot) -> GenerationRecord:
        """Say what to store with a clip so that it can be made again; errors as of `generate`."""
        bundle = self._opened.bundle
        plan = shot.plan(bundle)
        backend = "onnxruntime" if self._choice is None else self._choice.backend
        played = [engine.spec for engine in self._played(plan)]
        usual = backend == "onnxruntime" and all(s == bundle.graph(s.role) for s in played)
        digests = "".join(sorted(map(graph_digest, played)))
        return GenerationRecord.of(
            plan,
            bundle,
            bundle_sha256=self._opened.digest,
            animatic_version=__version__,
            backend=backend,
            precision="" if usual else self._engines["denoiser"].spec.precision,
            graphs_sha256="" if usual else hashlib.sha256(digests.encode()).hexdigest(),
            text_device=self._unusual_text_device(backend),
        )

    def close(self) -> None:
        """Free the engines; closing twice is allowed."""
        self._closed = True
        _close(self._engines)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def _read(self, plan: ShotPlan) -> GivenPictures:
        layout = plan.given.layout(self._opened.bundle.geometry, plan.latent_shape.frames)
        return plan.given.read((plan.width, plan.height), plan.fps, layout)

    def _frames(
        self, plan: ShotPlan, given: GivenPictures, on_progress: Callable[[Progress], None]
    ) -> Generator[Frame, None, None]:
        if not self._busy.acquire(blocking=False):
            raise EngineError(
                "This pipeline is already making a clip; finish or close that one first, or open "
                "another pipeline."
            )
        try:
            yield from self._whatever_happens(plan, given, on_progress)
        finally:
            # From the last to the first, and every one of them even if another raises.
            with contextlib.ExitStack() as stack:
                stack.callback(self._busy.release)
                for engine in self._engines.values():
                    stack.callback(engine.reset)

    def _whatever_happens(
        self, plan: ShotPlan, given: GivenPictures, on_progress: Callable[[Progress], None]
    ) -> Iterator[Frame]:
        """Make the clip, if need be from the beginning again on the spare engines.

        As the noise is the seed's, they draw the same shot: what was already shown is passed over.
        """
        shown = 0
        spare: Choice | None = None
        try:
            for frame in self._pictures(plan, given, on_progress):
                yield frame
                shown += 1
        except DeviceLostError as error:
            if self._spare is None:
                raise
            _log.warning("%s The clip is finished on the processor instead.", error)
            spare = self._spare()
        if spare is None:
            return
        self._text_device = "auto"
        try:
            _close(self._engines)
            self._chain(spare.engines)
        except BaseException:
            _close(spare.engines)
            raise
        reason = f"{spare.reason} It stands in for a GPU that was lost."
        self._choice = replace(spare, reason=reason, is_fallback=True)
        self._spare, self._fallen_back = None, True
        for frame in self._pictures(plan, given, on_progress):
            if frame.index >= shown:
                yield frame

    def _pictures(
        self, plan: ShotPlan, given: GivenPictures, on_progress: Callable[[Progress], None]
    ) -> Iterator[Frame]:
        clip = Clip(self._opened.bundle, plan, on_progress)
        words = self._text.words(plan)
        clip.count("text")
        players = Players(self._denoiser, self._decoders[plan.decoder], self._encoder)
        for index, pixels in enumerate(clip.pictures(players, words, given)):
            yield Frame(index, pixels, index / plan.fps, self._fallen_back)

    def _unusual_text_device(self, backend: str) -> Literal["cpu", "gpu"] | None:
        """Where the text encoder plays, if that is not where "auto" has it; else None."""
        asked = self._text_device
        if asked == "auto":
            return None
        costly = self._opened.bundle.text.costly
        usual = "cpu" if costly or backend == "onnxruntime" else "gpu"
        return None if asked == usual else asked

    def _played(self, plan: ShotPlan) -> list[Engine]:
        """The engines that make a plan; EngineError if its decoder or encoder was not opened."""
        roles: list[Role] = ["text_encoder", "denoiser", plan.decoder]
        if plan.given:
            roles.append("vae_encoder")
        for role in roles:
            if role not in self._engines:
                instead = "choose the vae_decoder" if role == plan.decoder else "open it too"
                raise EngineError(
                    f"The {role} of the bundle {self._opened.bundle.name} was not opened with the "
                    f"rest; {instead}."
                )
        return [self._engines[role] for role in roles]


def _check(bundle: Bundle, specs: Mapping[Role, GraphSpec]) -> None:
    """Hold graphs to what the pipeline gives and takes; BundleSchemaError if one is not so."""
    for role in TENSORS:
        if role not in specs:
            if role in OPTIONAL:
                continue
            raise BundleSchemaError(
                f"The bundle {bundle.name} has no {role} graph; export the bundle again with one."
            )
        problem = misfit(specs[role])
        if problem:
            raise BundleSchemaError(
                f"The {role} graph of the bundle {bundle.name} {problem}; export the bundle again."
            )


def _close(engines: Mapping[Role, Engine]) -> None:
    """Close all of them, even if one raises."""
    with contextlib.ExitStack() as stack:
        for engine in engines.values():
            stack.callback(engine.close)


def _ignore(progress: Progress) -> None:
    """Nobody asked how far we are."""
