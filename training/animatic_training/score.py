"""All scores of a run: the teacher, and every student at every number of its steps.

Each group of figures is kept beside the run under the digest of what made it, so that scoring too
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from animatic_training.atomic import whole_file
from animatic_training.distill import student_file
from animatic_training.latents import vae_digest
from animatic_training.probe import load_probe
from animatic_training.prompts import SCORE_SEED, ScorePrompt, score_prompts
from animatic_training.sampling import shifted_sigmas
from animatic_training.score_shots import Jury, score_clips, score_given, score_long, score_loop
from animatic_training.shots import Model
from animatic_training.text import CaptionEncoder
from animatic_training.world.attributes import ShotAttributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from animatic_training.config import ScoreConfig
    from animatic_training.stages import Workplace


def score_run(place: Workplace) -> Iterator[dict[str, float]]:
    """Yield groups of scores such as ``teacher_subject``, ``dmd4_all``, ``dmd4_words_colour``.

    Shares are from 0 to 1.
    """
    config = place.config
    prompts = score_prompts(config.score.prompts)
    words = score_prompts(config.score.prompts, held_out_words=True)
    few = prompts[: config.score.shots]
    pixels, labels = place.held_out()
    pictured, shown = _captioned(labels[: len(few)], pixels[: len(few)])
    probe = place.run / "probe.safetensors"
    jury = Jury(
        place.vae(),
        load_probe(probe).to(place.device),
        CaptionEncoder(config.text_max_tokens, place.device),
        (config.vae.latent_channels, *config.sizes[0].grid),
    )
    judged_by = [vae_digest(jury.vae), hashlib.sha256(probe.read_bytes()).hexdigest()]
    for name, model in models(place):
        groups: dict[str, Callable[[], Mapping[str, float]]] = {
            "": partial(score_clips, jury, model, prompts)
        }
        if model.sigmas not in config.distill.schedules[1:]:
            groups |= {
                "words_": partial(score_clips, jury, model, words),
                "long_": partial(score_long, jury, model, few),
                "loop_": partial(score_loop, jury, model, few),
                "given_": partial(score_given, jury, model, pictured, shown),
            }
        own = _digest(model, judged_by, config.score)
        for group, measure in groups.items():
            scores = _once(place, f"{name}-{group}{own}", measure)
            yield {f"{name}_{group}{key}": value for key, value in scores.items()}


def models(place: Workplace) -> Iterator[tuple[str, Model]]:
    """Yield the teacher, and the students that there are at each number of steps."""
    config = place.config
    # Spaced as its training was: more steps where it saw more of the noise levels.
    many = shifted_sigmas(config.score.teacher_steps, config.train.timestep_shift)
    yield "teacher", Model(place.teacher(), tuple(many), config.distill.guidance)
    for method in ("dmd", "perflow"):
        if (place.run / student_file(method)).exists():
            student = place.student(method)
            for sigmas in config.distill.schedules:
                yield f"{method}{len(sigmas)}", Model(student, sigmas)


def _captioned(labels: Tensor, pixels: Tensor) -> tuple[list[ScorePrompt], Tensor]:
    """Return prompts that say what held-out renders show, and those renders."""
    rng = np.random.default_rng(SCORE_SEED)
    shots = [ShotAttributes(*row) for row in labels.tolist()]
    return [ScorePrompt(write_caption(s, rng, full=True), s) for s in shots], pixels


def _digest(model: Model, judged_by: Sequence[str], settings: ScoreConfig) -> str:
    weights = (t.detach().cpu().numpy().tobytes() for t in model.denoiser.state_dict().values())
    said = repr((*judged_by, settings, model.sigmas, model.guidance)).encode()
    return hashlib.sha256(b"".join(weights) + said).hexdigest()[:8]


def _once(
    place: Workplace, name: str, measure: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    path = place.run / "scores" / f"{name}.json"
    if path.exists():
        known: dict[str, float] = json.loads(path.read_text())
        return known
    scores = dict(measure())
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(scores) + "\n")
    return scores
