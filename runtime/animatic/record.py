"""What made a clip, as it is stored inside the clip and read back from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from animatic.bundle import DecoderRole
from animatic.errors import OutputError
from animatic.geometry import format_rate, parse_rate
from animatic.shot import Shot, ShotPlan, usual_decoder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from animatic.bundle import Bundle
    from animatic.sources import Source

__all__ = ["GenerationRecord", "GivenFile"]


class GivenFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A picture or clip that a shot was given, so that it can be found and known again.

    file: its name: relative to where the command ran, or bare if it lay outside; "" for an array.
    sha256: `Source.digest`, in hex. frame: which frame it was for, counted from 0; None for a clip.
    """

    file: str
    sha256: str
    frame: int | None = None


class GenerationRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Everything needed to make the same clip again.

    There is no date in it: the same shot must give the same bytes.

    width, height: pixels. fps: exact delivery rate, "8/1".
    bundle_sha256: `OpenBundle.digest` of the model, in hex.
    backend: what ran the graphs (`Choice.backend`); precision: of the denoiser's graph, empty for
        the reference on the processor; graphs_sha256: of the graphs that were played, where they
        are not the reference.
    text_device: where the text encoder played, if not where it plays when nobody chooses.
    steps, guidance, negative_prompt, decoder: where they are not what the bundle's `Shot.plan`
        settles on by itself.
    images, continue_from, before, loop: what it was given, as `Shot` has it.
    What is at its default is left out of the JSON.
    """

    prompt: str
    seed: int
    variant: int
    width: int
    height: int
    frames: int
    fps: str
    bundle_name: str
    bundle_sha256: str
    animatic_version: str
    backend: str = "onnxruntime"
    precision: str = ""
    graphs_sha256: str = ""
    text_device: Literal["cpu", "gpu"] | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    decoder: DecoderRole | None = None
    images: tuple[GivenFile, ...] = ()
    continue_from: GivenFile | None = None
    before: GivenFile | None = None
    loop: bool = False

    @classmethod
    def of(
        cls,
        plan: ShotPlan,
        bundle: Bundle,
        *,
        bundle_sha256: str,
        animatic_version: str,
        backend: str = "onnxruntime",
        precision: str = "",
        graphs_sha256: str = "",
        text_device: Literal["cpu", "gpu"] | None = None,
    ) -> GenerationRecord:
        """Note down a planned shot on one bundle; InputError if what it is given cannot be read."""
        given = plan.given
        usual = bundle.sampler
        negative = plan.negative_prompt if plan.guidance != 1 else usual.negative_prompt
        decoder = usual_decoder(bundle)
        return cls(
            prompt=plan.prompt,
            seed=plan.seed,
            variant=plan.variant,
            width=plan.width,
            height=plan.height,
            frames=plan.frames,
            fps=format_rate(plan.fps),
            bundle_name=bundle.name,
            bundle_sha256=bundle_sha256,
            animatic_version=animatic_version,
            backend=backend,
            precision=precision,
            graphs_sha256=graphs_sha256,
            text_device=text_device,
            steps=None if plan.steps == len(usual.sigmas) else plan.steps,
            guidance=None if plan.guidance == usual.guidance else plan.guidance,
            negative_prompt=None if negative == usual.negative_prompt else negative,
            decoder=None if plan.decoder == decoder else plan.decoder,
            images=tuple(_noted(source, frame) for frame, source in given.images),
            continue_from=_noted(given.continue_from) if given.continue_from else None,
            before=_noted(given.before) if given.before else None,
            loop=given.loop,
        )

    def to_json(self) -> str:
        """Write one line of JSON, the same for equal records."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> GenerationRecord:
        """Read `to_json` back; OutputError if it is not a record."""
        try:
            record = msgspec.json.decode(text, type=cls)
            parse_rate(record.fps)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise OutputError(
                f"The record in that file cannot be read ({error}); update animatic if a newer "
                "version wrote it, or use a file that animatic wrote."
            ) from error
        return record

    def rate(self) -> Fraction:
        """Return the delivery rate in frames per second."""
        return parse_rate(self.fps)

    def given(self) -> list[GivenFile]:
        """Every picture and clip that it was given."""
        return [*self.images, *(clip for clip in (self.continue_from, self.before) if clip)]

    def shot(self, found: Mapping[GivenFile, Path] | None = None) -> Shot:
        """Return the shot that makes this clip again on the same bundle.

        found: where what it was given lies now; None is where it lay.
        """

        def place(given: GivenFile) -> Path:
            return Path(given.file) if found is None else found[given]

        return Shot(
            prompt=self.prompt,
            seed=self.seed,
            size=(self.width, self.height),
            frames=self.frames,
            fps=self.rate(),
            variant=self.variant,
            steps=self.steps,
            guidance=self.guidance,
            negative_prompt=self.negative_prompt,
            decoder=self.decoder,
            images={given.frame or 0: place(given) for given in self.images},
            continue_from=place(self.continue_from) if self.continue_from else None,
            before=place(self.before) if self.before else None,
            loop=self.loop,
        )


def _noted(source: Source, frame: int | None = None) -> GivenFile:
    return GivenFile(file=_portable(source.file), sha256=source.digest(), frame=frame)


def _portable(file: str) -> str:
    """A name without the folders of this machine; "" for what has none."""
    if not file:
        return ""
    # Of the words alone: a link is not followed, and what climbs out of this folder is outside.
    path, here = Path(os.path.abspath(file)), Path.cwd()  # noqa: PTH100, resolve follows links
    inside = path.is_relative_to(here)
    return (path.relative_to(here) if inside else Path(path.name)).as_posix()
