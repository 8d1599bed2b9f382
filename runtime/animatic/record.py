"""What made a clip, as it is stored inside the clip and read back from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from animatic.bundle import DecoderRole
from animatic.errors import OutputError
from animatic.geometry import format_rate, parse_rate
from animatic.shot import Shot, ShotPlan, usual_decoder

if TYPE_CHECKING:
    from fractions import Fraction

    from animatic.bundle import Bundle

__all__ = ["GenerationRecord"]


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
        """Note down a planned shot on one bundle."""
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

    def shot(self) -> Shot:
        """Return the shot that makes this clip again on the same bundle."""
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
        )
