"""What a shot may choose, from the command line to the file and back: on real graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import msgspec
import numpy as np
import pytest

from animatic.engine.choice import choose
from animatic.noise import NoiseStream
from animatic.pipeline import Pipeline
from animatic.shot import MAX_GUIDANCE, Shot
from animatic.sinks import read_record
from animatic.store import open_bundle
from animatic.tokenizer import BundleTokenizer
from tests.runtime.tiny_bundle import write_causal_bundle, write_choosy_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from animatic.engine import Engine
    from tests.runtime.command_line import Run

    Array = npt.NDArray[Any]

CHOICES = ("steps", "guidance", "negative_prompt", "decoder")


@pytest.fixture(scope="module")
def choosy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_choosy_bundle(tmp_path_factory.mktemp("choosy") / "bundle")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal_bundle(tmp_path_factory.mktemp("causal") / "bundle")


MADE: list[tuple[Sequence[str], tuple[int, int], dict[str, Any]]] = [
    ([], (64, 48), {}),
    (["--tier", "preview"], (32, 16), {"steps": 2}),
    (["--preview"], (32, 16), {"steps": 2}),
    (["--preview", "--tier", "preview"], (32, 16), {"steps": 2}),
    (["--final"], (64, 48), {"decoder": "vae_decoder"}),
    (
        ["--preview", "--size", "64x48", "--decoder", "vae"],
        (64, 48),
        {"steps": 2, "decoder": "vae_decoder"},
    ),
    (["--steps", "4", "--decoder", "tiny"], (64, 48), {}),
    (["--decoder", "vae_decoder"], (64, 48), {"decoder": "vae_decoder"}),
    (["--guidance", "1"], (64, 48), {"guidance": 1.0}),
    (
        ["--guidance", "2.5", "--negative-prompt", "dark"],
        (64, 48),
        {"guidance": 2.5, "negative_prompt": "dark"},
    ),
    (["--negative-prompt", ""], (64, 48), {"negative_prompt": ""}),
]


@pytest.mark.parametrize(("arguments", "size", "noted"), MADE, ids=lambda value: str(value)[:40])
def test_what_is_chosen_is_noted_and_comes_out_again(
    run: Run, choosy: Path, arguments: Sequence[str], size: tuple[int, int], noted: dict[str, Any]
) -> None:
    bundle = ("--bundle", str(choosy))
    result = run("generate", "A red lorry!", *bundle, "--frames", "5", "-o", "c.mp4", *arguments)
    assert (result.code, result.err) == (0, "")
    record = read_record(Path("c.mp4"))
    assert (record.width, record.height) == size
    fields = msgspec.to_builtins(record)
    assert {name: fields[name] for name in CHOICES if name in fields} == noted
    with av.open("c.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == size
    assert run("reproduce", "c.mp4", *bundle) == (
        0,
        "identical: every byte of c.mp4 came out again\n",
        "",
    )


def test_every_choice_makes_another_clip(choosy: Path) -> None:
    shots = [
        Shot("A red lorry!", frames=5),
        Shot("A red lorry!", frames=5, steps=2),
        Shot("A red lorry!", frames=5, guidance=1),
        Shot("A red lorry!", frames=5, negative_prompt="dark"),
        Shot("A red lorry!", frames=5, decoder="vae_decoder"),
    ]
    with Pipeline.open(choosy) as pipeline:
        clips = [pipeline.clip(shot) for shot in shots]
        assert len({clip.tobytes() for clip in clips}) == len(shots)
        for shot, clip in zip(shots, clips, strict=True):
            np.testing.assert_array_equal(pipeline.clip(shot), clip)


REFUSED: list[tuple[Sequence[str], str, int]] = [
    (["--preview", "--final"], "name different tiers; give one of them", 2),
    (["--tier", "final", "--preview"], "name different tiers; give one of them", 2),
    (["--tier", "", "--preview"], "name different tiers; give one of them", 2),
    (["--tier", "draft"], "no such tier; choose preview or final", 1),
    (["--steps", "3"], "in that many steps; choose 2 or 4", 1),
    (["--steps", "two"], "Invalid value for '--steps'", 2),
    (["--guidance", "0"], "choose a number from 1 (none) to 100, such as 4", 1),
    (["--guidance", "nan"], "choose a number from 1 (none) to 100, such as 4", 1),
    (["--guidance", "1", "--negative-prompt", "dark"], "leave it out, or ask for guidance of 4", 1),
    (["--decoder", "large"], "Invalid value for '--decoder'", 2),
]


@pytest.mark.parametrize(("arguments", "sentence", "code"), REFUSED, ids=lambda v: str(v)[:40])
def test_refusals(
    run: Run, choosy: Path, tmp_path: Path, arguments: Sequence[str], sentence: str, code: int
) -> None:
    result = run("generate", "A red lorry!", "--bundle", str(choosy), *arguments)
    assert (result.code, result.out) == (code, "")
    assert sentence in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preview"], "This model has no tiers; leave the tier out."),
        (["--guidance", "5"], "This model runs without guidance; leave it out."),
        (["--negative-prompt", "dark"], "nothing leads away from a negative prompt; leave it out."),
        (["--steps", "4"], "in that many steps; choose 2, or leave the steps out."),
        (["--decoder", "tiny"], "This model has no tiny decoder; leave the decoder out."),
    ],
)
def test_a_model_that_has_no_such_choice(run: Run, arguments: Sequence[str], sentence: str) -> None:
    result = run("generate", "A red lorry!", "--bundle", "BUNDLE", *arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("animatic: ")
    assert sentence in result.err


def test_the_help_of_guidance_has_its_range(run: Run) -> None:
    text = " ".join(run("generate", "--help").out.split())
    assert f"from 1, which is not at all and twice as fast, to {MAX_GUIDANCE}; without" in text
    assert "--decoder [vae|tiny]" in text


@pytest.mark.parametrize(
    ("arguments", "frames", "said"),
    [
        (["--frames", "33"], 33, ""),
        (["--seconds", "4.125"], 33, ""),
        (["--seconds", "4"], 33, "the clip is 33 frames, 4.125 s"),
    ],
)
def test_a_clip_of_many_blocks(
    run: Run, causal: Path, arguments: Sequence[str], frames: int, said: str
) -> None:
    bundle = ("--bundle", str(causal))
    result = run("generate", "A red lorry!", *bundle, "-o", "c.webp", *arguments)
    assert (result.code, result.out) == (0, "c.webp\n")
    assert said in result.err
    assert bool(result.err) == bool(said)
    assert read_record(Path("c.webp")).frames == frames
    assert run("reproduce", "c.webp", *bundle).out.startswith("identical: ")


def test_a_longer_clip_begins_like_a_shorter_one(causal: Path) -> None:
    """Whatever a block knows, it knows of the past."""
    with Pipeline.open(causal) as pipeline:
        short = pipeline.clip(Shot("A red lorry!", frames=21))
        long = pipeline.clip(Shot("A red lorry!", frames=57))
    np.testing.assert_array_equal(long[:21], short)


class Heard:
    """An engine, and what it was given."""

    def __init__(self, engine: Engine) -> None:
        self.spec = engine.spec
        self.latents: list[Array] = []
        self._engine = engine
        self.reset, self.close = engine.reset, engine.close

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.latents.append(inputs["latents"])
        return self._engine.run(inputs)


def test_a_block_is_what_it_is_by_the_ones_before(causal: Path) -> None:
    """By hand: two blocks of two steps, and the run between them that hands the first one on."""
    shot = Shot("hi", seed=5, frames=21, size=(32, 16))
    opened = open_bundle(causal)
    tokenizer = BundleTokenizer(opened.path("tokenizer.json"), opened.bundle.text)
    engines = dict(choose(opened, "cpu").engines)
    decoder = Heard(engines["vae_decoder"])
    with Pipeline(opened, tokenizer, {**engines, "vae_decoder": decoder}) as pipeline:
        pipeline.clip(shot)

    tokens = tokenizer.encode(shot.prompt)
    text = (tokens.input_ids * tokens.attention_mask).mean() / 128
    seen = np.zeros((1, 1, 1, 2, 4))

    def velocity(x: Array, timestep: float, position: int) -> Array:
        nonlocal seen
        before, seen = seen, x.mean(axis=(1, 2), keepdims=True)
        return np.asarray(x / 2 + text + timestep / 4000 - before / 2 + position / 64)

    noise, shape, blocks = NoiseStream(shot.seed), (1, 4, 3, 2, 4), []
    for block in range(2):
        x: Array = noise.initial(block, shape).astype(np.float64)
        x = x - velocity(x, 1000, 3 * block)
        x = 0.5 * x + 0.5 * noise.fresh(block, 0, shape)
        x = x - 0.5 * velocity(x, 500, 3 * block)
        velocity(x, 0, 3 * block)
        blocks.append(x)
    stats = opened.bundle.latents
    mean, std = (np.array(part).reshape(1, -1, 1, 1, 1) for part in (stats.mean, stats.std))
    # The graphs are float32: some units in the last place of values about 1, over five runs.
    np.testing.assert_allclose(
        np.concatenate(decoder.latents, axis=2),
        np.concatenate(blocks, axis=2) * std + mean,
        rtol=0,
        atol=1e-5,
    )
