"""Blockout's second version from a checkpoint to a bundle, and the bundle held against torch."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from animatic import Pipeline, Shot
from animatic.bundle import Role, Size
from animatic.engine import OnnxRuntimeEngine
from animatic.noise import NoiseStream
from animatic.store import open_bundle
from animatic_export.blockout.checkpoint import read_checkpoint
from animatic_export.blockout.clip_release import ClipRelease
from animatic_export.blockout.from_bundle import plan_again
from animatic_export.blockout.minilm import MiniLm
from animatic_export.blockout.operations import gflop
from animatic_export.blockout.window_graphs import (
    WINDOWS,
    state_channels,
    window_inputs,
)
from animatic_export.blockout.window_release import WindowRelease
from animatic_export.cli import command
from animatic_export.errors import CheckpointError
from tests.export import test_blockout_export as version_0
from tests.export.toy import VAE
from tests.export.window_toy import (
    METADATA,
    SCHEDULES,
    SHOT,
    WINDOW,
    toy_denoiser,
    toy_vae,
    write_window_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from animatic.store import OpenBundle

PROMPT = "WS, a red truck drives left at dusk"
FACTOR = VAE.temporal_factor
GRAPHS: tuple[Role, ...] = ("text_encoder", "denoiser", "vae_decoder", "vae_encoder")
NEAR = 1e-4
"""Relative, L2: sums of float32 products in another order."""


def test_a_checkpoint_says_by_its_format_which_model_it_is(tmp_path: Path) -> None:
    first, second = tmp_path / "0.safetensors", tmp_path / "1.safetensors"
    version_0.write_checkpoint(first)
    write_window_checkpoint(second)
    assert isinstance(read_checkpoint(first), ClipRelease)
    release = read_checkpoint(second)
    assert isinstance(release, WindowRelease)
    assert (release.vae_config, release.denoiser.config, release.shot) == (VAE, WINDOW, SHOT)
    assert release.schedules == SCHEDULES
    wanted = toy_denoiser().state_dict()
    for name, tensor in release.denoiser.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_float32_tensors_are_read_as_the_bundle_will_store_them(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    tensors = {f"vae.{name}": tensor for name, tensor in toy_vae().state_dict().items()}
    tensors |= {f"denoiser.{name}": t for name, t in toy_denoiser().state_dict().items()}
    tensors["denoiser.embed.bias"] = tensors["denoiser.embed.bias"] + 1e-6
    save_file(tensors, path, METADATA)
    release = read_checkpoint(path)
    assert isinstance(release, WindowRelease)
    bias = release.denoiser.embed.bias
    assert bias.dtype == torch.float32
    assert torch.equal(bias, tensors["denoiser.embed.bias"].half().float())


def test_what_training_releases_is_what_the_export_reads(tmp_path: Path) -> None:
    from animatic_training.checkpoint import write_release
    from animatic_training.config import load_config

    config = load_config("v1")
    shape = msgspec.structs.replace(
        config.denoiser, width=96, depth=2, heads=2, text_width=384, text_queries=2
    )
    config = msgspec.structs.replace(config, vae=VAE, denoiser=shape)
    path = write_release(config, toy_vae(), toy_denoiser(), tmp_path, "dmd")
    release = read_checkpoint(path)
    assert isinstance(release, WindowRelease)
    assert release.shot.sizes == ((256, 144), (192, 192), (144, 256), (304, 128))
    assert (release.shot.block_latent_frames, release.shot.context_latent_frames) == (4, 2)
    assert release.text_max_tokens == config.text_max_tokens
    assert [len(sigmas) for sigmas in release.schedules] == [4, 2, 1]
    for name, tensor in toy_denoiser().state_dict().items():
        assert torch.equal(release.denoiser.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": None}, "lacks 'window'"),
        ({"card": None}, "lacks 'card'"),
        ({"clip": '{"fps":8}'}, "is malformed (Object missing required field `sizes`)"),
        ({"text_max_tokens": '"many"'}, "is malformed"),
        ({"schedules": "[]"}, "no noise levels"),
        ({"format": "blockout-3"}, "expected 'blockout-1' or 'blockout-2'"),
    ],
)
def test_a_checkpoint_that_lacks_metadata_is_refused(
    tmp_path: Path, change: dict[str, str | None], sentence: str
) -> None:
    metadata = {name: text for name, text in (METADATA | change).items() if text}
    save_file({"x": torch.zeros(1)}, tmp_path / "c", metadata)
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        read_checkpoint(tmp_path / "c")


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    narrow = msgspec.structs.replace(WINDOW, width=16)
    write_window_checkpoint(tmp_path / "whole")
    release = read_checkpoint(tmp_path / "whole")
    assert isinstance(release, WindowRelease)
    tensors = {f"vae.{name}": tensor for name, tensor in release.vae.state_dict().items()}
    tensors |= {f"denoiser.{n}": t for n, t in toy_denoiser(narrow).state_dict().items()}
    save_file(tensors, tmp_path / "c", METADATA)
    with pytest.raises(CheckpointError, match="do not fit the shapes it names"):
        read_checkpoint(tmp_path / "c")


def test_what_a_bundle_says_of_the_model(tmp_path: Path) -> None:
    write_window_checkpoint(tmp_path / "c")
    release = read_checkpoint(tmp_path / "c")
    plans = release.plans(MiniLm().eval())
    assert tuple(plan.role for plan in plans) == GRAPHS
    about = release.about(plans)
    assert about.version == "1"
    assert about.text.endswith("data: a toy's. cost: nothing.")
    geometry = about.geometry
    assert geometry.sizes[0] == Size(width=64, height=32)
    assert len(geometry.sizes) == len(SHOT.sizes)
    assert geometry.frame_counts == (29, 13, 45, 61)
    assert (geometry.block_latent_frames, geometry.context_latent_frames) == (4, 2)
    assert about.prompt_tokens == 24
    assert about.latents.std == tuple(toy_vae().std.tolist())
    offered = [about.sampler.sigmas, *(each.sigmas for each in about.sampler.schedules)]
    assert tuple(offered) == SCHEDULES
    assert [(tier.name, tier.steps) for tier in about.tiers] == [("preview", 2), ("final", 4)]
    scores = about.scores
    assert scores["student_all"] == 0.5
    # A further block sees six latent frames, and a clip of 29 frames is one of each.
    assert scores["gflop_further_block"] > scores["gflop_first_block"] > 0
    both = scores["gflop_first_block"] + scores["gflop_further_block"]
    reading = gflop(plans[0].module, plans[0].examples[0])
    # Each of the three is rounded to 0.001.
    assert scores["gflop_per_clip"] - both == pytest.approx(reading, abs=0.002)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> OpenBundle:
    """What `animatic export` makes of the toy's checkpoint. Not to be written to."""
    folder = tmp_path_factory.mktemp("v1")
    write_window_checkpoint(folder / "c.safetensors")
    words = ["blockout", "--checkpoint", str(folder / "c.safetensors"), "--out"]
    result = CliRunner().invoke(command, [*words, str(folder / "bundle")])
    assert result.exit_code == 0, result.output
    errors = re.findall(r"(\w+): relative error against torch (\S+)", result.output)
    assert [role for role, _ in errors] == list(GRAPHS)
    assert all(float(error) < NEAR for role, error in errors if role != "text_encoder")
    return open_bundle(folder / "bundle")  # verified


def run(opened: OpenBundle, role: Role, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a reference graph once, its states given like other inputs."""
    spec = opened.bundle.graph(role)
    stateless = msgspec.structs.replace(spec, states=())
    engine = OnnxRuntimeEngine(opened.path(spec.file), stateless)
    feeds = {t.name: value.numpy() for t, value in zip(spec.inputs, inputs, strict=True)}
    try:
        made = engine.run(feeds)
    finally:
        engine.close()
    return [torch.from_numpy(made[tensor.name]) for tensor in spec.outputs]


def off(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).norm() / wanted.norm())


@pytest.mark.slow
def test_the_bundle_is_whole(bundle: OpenBundle) -> None:
    about = bundle.bundle
    assert (about.name, about.version) == ("blockout", "1")
    assert about.conditioning.text
    assert about.conditioning.keyframes
    assert about.conditioning.context
    assert {graph.precision for graph in about.graphs} == {"int8-weights", "fp16-weights"}
    assert sorted(path.name for path in bundle.root.iterdir()) == [
        "bundle.json",
        "denoiser.onnx",
        "licences",
        "text_encoder.onnx",
        "tokenizer.json",
        "vae_decoder.onnx",
        "vae_encoder.onnx",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("window", [*WINDOWS, (8, 2, 5), (1, 3, 1)])
def test_graphs_agree_with_their_modules_at_every_shape(
    bundle: OpenBundle, window: tuple[int, int, int]
) -> None:
    """The four that the export itself proves, and two that nobody traced or named."""
    frames, rows, columns = window
    inputs = window_inputs(WINDOW, *window)
    (velocity,) = run(bundle, "denoiser", inputs)
    assert off(velocity, toy_denoiser()(*inputs)) < NEAR

    vae = toy_vae()
    video = torch.rand(1, 1 + FACTOR * (frames - 1), 3, 16 * rows, 16 * columns)
    pictures = torch.cat([video[:, :1].expand(-1, FACTOR - 1, -1, -1, -1), video], dim=1)
    (latents,) = run(bundle, "vae_encoder", [pictures.transpose(1, 2).contiguous()])
    assert off(latents, vae.encode(video)[0]) < NEAR

    states = [torch.zeros(1, count, rows, columns) for count in state_channels(vae.decoder)]
    made = []
    for place in range(min(frames, 2)):
        picture, *states = run(bundle, "vae_decoder", [latents[:, :, place : place + 1], *states])
        made.append(picture)
    drawn = torch.cat(made, dim=2)[:, :, FACTOR - 1 :].transpose(1, 2)
    assert off(drawn, vae.decode(latents[:, :, :2]).clamp(0, 1)) < NEAR


@pytest.mark.slow
def test_the_decoders_states_are_its_memories_under_other_names(bundle: OpenBundle) -> None:
    """The first and last nodes on a state's way reshape it, which moves nothing."""
    spec = bundle.bundle.graph("vae_decoder")
    nodes = onnx.load(bundle.path(spec.file)).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    for pair in spec.states:
        readers = [node for node in nodes if pair.input in node.input]
        assert {node.op_type for node in readers} <= {"Reshape", "Shape"}
        assert made_by[pair.output].op_type == "Reshape"


@pytest.mark.slow
def test_modules_come_back_from_the_bundle_as_they_went_in(bundle: OpenBundle) -> None:
    vae = toy_vae()
    wanted = {
        "denoiser": toy_denoiser().state_dict(),
        "vae_decoder": {f"decoder.{n}": t for n, t in vae.decoder.state_dict().items()},
        "vae_encoder": {f"encoder.{n}": t for n, t in vae.encoder.state_dict().items()},
    }
    for role in GRAPHS[1:]:
        plan, graph = plan_again(bundle, role), bundle.bundle.graph(role)
        assert (plan.inputs, plan.outputs, plan.states) == (
            graph.inputs,
            graph.outputs,
            graph.states,
        )
        assert plan.architecture == graph.architecture
        again = plan.module.state_dict()
        assert again.keys() == wanted[role].keys()
        for name, tensor in wanted[role].items():
            assert torch.equal(again[name], tensor), name


@dataclass
class Reference:
    """A shot as the design has it, in torch: windows by hand, the whole clip decoded at once."""

    pipeline: Pipeline
    shot: Shot
    before: Tensor | None = None
    """Normalised latents [1, C, T, h, w] of the clip that is continued."""

    def __post_init__(self) -> None:
        self.vae, self.denoiser = toy_vae(), toy_denoiser()
        plan = self.shot.plan(self.pipeline.bundle.bundle)
        words = self.pipeline._text.words(plan).positive["text_states"]
        self.states = torch.from_numpy(words)
        self.noise = NoiseStream(self.shot.seed, 0)
        self.grid = (plan.height // 16, plan.width // 16)
        self.sigmas = next(each for each in SCHEDULES if len(each) == plan.steps)

    def block(
        self, number: int, front: list[Tensor], behind: list[Tensor], positions: list[float]
    ) -> Tensor:
        """Make a block's latents among what is given; what is in `front` of them may be its own."""
        shape = (1, VAE.latent_channels, 4, *self.grid)
        x = torch.from_numpy(self.noise.initial(number, shape))
        own = int(bool(front) and positions[0] == 0)  # the first latent of a shot, given
        x, begin = x[:, :, own:], sum(each.shape[2] for each in front)
        made = slice(begin, begin + x.shape[2])
        for now, following in zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True):
            times = torch.zeros(1, len(positions))
            times[:, made] = 1000 * now
            shown = torch.cat([*front, x, *behind], dim=2)
            velocity = self.denoiser(shown, times, torch.tensor([positions]), self.states)
            x = x + (following - now) * velocity[:, :, made]
        return torch.cat([*front[:own], x], dim=2)

    def encoded(self, pictures: np.ndarray[Any, Any]) -> Tensor:
        """Latents of pictures, uint8 [F, H, W, 3]; the first is repeated, as a shot's first is."""
        video = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].float() / 255
        return self.vae.normalise(self.vae.encode(video)[0])

    def drawn(self, latents: Tensor, trim: int) -> np.ndarray[Any, Any]:
        """Draw latents as uint8 [F, H, W, 3] less the first pictures, `trim` in number."""
        groups = self.vae.decoder(self.vae.denormalise(latents).transpose(1, 2))
        video = groups[0].unflatten(1, (FACTOR, 3)).flatten(0, 1)[trim:]
        pixels: np.ndarray[Any, Any] = (
            ((video / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        )
        return pixels


@pytest.fixture(scope="module")
def pipeline(bundle: OpenBundle) -> Iterator[Pipeline]:
    with Pipeline.open(bundle.root, device="cpu") as opened:
        yield opened


def check(made: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    """The same pictures, neither empty nor burnt out, but for values that round to a neighbour.

    Those are fewer than one in a thousand here. A still a quarter of a latent frame off its place
    changes a value by 0.1 on average, a window that counts from 2 instead of 1 by 1.
    """
    assert made.shape == wanted.shape
    assert wanted.std() > 1
    assert np.isin(wanted, (0, 255)).mean() < 0.5
    error = np.abs(made.astype(int) - wanted.astype(int))
    assert error.max() <= 2
    assert error.mean() < 0.01


def clip(frames: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """Pictures that somebody might give: uint8 noise, coarse enough that the VAE sees it."""
    cells = np.random.default_rng(0).integers(0, 256, (frames, height // 8, width // 8, 3))
    pixels: np.ndarray[Any, Any] = cells.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize(("size", "steps"), [((64, 32), None), ((80, 32), 2)])
@pytest.mark.parametrize("frames", [13, 29])
def test_text_to_video(
    pipeline: Pipeline, size: tuple[int, int], steps: int | None, frames: int
) -> None:
    shot = Shot(PROMPT, seed=3, size=size, frames=frames, steps=steps)
    torch_side = Reference(pipeline, shot)
    latents = torch_side.block(0, [], [], [0, 1, 2, 3])
    if frames == 29:
        further = torch_side.block(1, [latents[:, :, -2:]], [], [1, 2, 3, 4, 5, 6])
        latents = torch.cat([latents, further], dim=2)
    check(pipeline.clip(shot), torch_side.drawn(latents, trim=FACTOR - 1))


@pytest.mark.slow
def test_pictures_for_the_first_frame_and_a_later_one(pipeline: Pipeline) -> None:
    first, later = clip(2, 64, 32)
    shot = Shot(PROMPT, seed=4, size=(64, 32), frames=13, images={0: first, 6: later})
    torch_side = Reference(pipeline, shot)
    given, still = (torch_side.encoded(picture[None]) for picture in (first, later))
    latents = torch_side.block(0, [given], [still], [0, 1, 2, 3, (6 + 1.5) / 4])
    assert torch.equal(latents[:, :, :1], given)
    check(pipeline.clip(shot), torch_side.drawn(latents, trim=FACTOR - 1))


@pytest.mark.slow
def test_going_on_from_a_clip(pipeline: Pipeline) -> None:
    before = clip(12, 48, 48)  # the encoder warms up on the first four
    shot = Shot(PROMPT, seed=5, size=(48, 48), frames=32, continue_from=before)
    torch_side = Reference(pipeline, shot)
    video = torch.from_numpy(before).permute(0, 3, 1, 2)[None].float() / 255
    groups = (video * 2 - 1).reshape(1, 3, 3 * FACTOR, 48, 48)
    moments = torch_side.vae.encoder(groups).transpose(1, 2)
    context = torch_side.vae.normalise(moments[:, : VAE.latent_channels])[:, :, 1:]
    first = torch_side.block(0, [context], [], [1, 2, 3, 4, 5, 6])
    further = torch_side.block(1, [first[:, :, -2:]], [], [1, 2, 3, 4, 5, 6])
    latents = torch.cat([context, first, further], dim=2)
    check(pipeline.clip(shot), torch_side.drawn(latents, trim=2 * FACTOR))


@pytest.mark.slow
def test_a_loop(pipeline: Pipeline) -> None:
    shot = Shot(PROMPT, seed=6, size=(64, 32), frames=29, loop=True)
    made = pipeline.clip(shot)
    torch_side = Reference(pipeline, shot)
    first = torch_side.block(0, [], [], [0, 1, 2, 3])
    # The loop goes on with the four pictures that it opened with, which are 8-bit by then.
    opening = torch_side.encoded(np.concatenate([made[:1], made[:4]]))[:, :, 1:]
    further = torch_side.block(1, [first[:, :, -1:]], [opening], [1, 2, 3, 4, 5, 6])
    check(made, torch_side.drawn(torch.cat([first, further], dim=2), trim=FACTOR - 1))


@pytest.fixture(scope="module")
def half(bundle: OpenBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with its fp16 graphs too."""
    from animatic_export.typed_graphs import add_typed_graphs

    root = Path(shutil.copytree(bundle.root, tmp_path_factory.mktemp("half") / "bundle"))
    errors = add_typed_graphs(root, "fp16")
    assert tuple(errors) == GRAPHS
    return root


@pytest.mark.slow
def test_every_graph_compiles_for_a_card_in_half_precision(half: Path, tmp_path: Path) -> None:
    from tests.engines.building import build, needs_compiler

    needs_compiler()
    root = Path(shutil.copytree(half, tmp_path / "bundle"))
    outcomes = build(root, precision="fp16", target="rtx-40")  # SM89
    assert tuple(outcome.entry.role for outcome in outcomes) == GRAPHS
    layers = {outcome.entry.role: outcome.sidecar.layers for outcome in outcomes}
    # One kernel for each block's attention; the pooling of a prompt has a constant query and none.
    assert layers["denoiser"].attentions == {"float16": WINDOW.depth}
    assert layers["denoiser"].gemms["float16"] > 0
    for role in ("vae_decoder", "vae_encoder"):
        assert set(layers[role].convolutions) == {"float16"}
    open_bundle(root)


@pytest.mark.slow
def test_denoiser_and_decoder_are_calibrated_to_8_bits(half: Path, tmp_path: Path) -> None:
    from animatic_calibration.calibrate import calibrate_bundle
    from tests.calibration.calibrating import LENIENT, PROMPTS, read_report

    root = Path(shutil.copytree(half, tmp_path / "bundle"))
    calibrate_bundle(root, PROMPTS, LENIENT)
    opened = open_bundle(root)
    narrow = {graph.role for graph in opened.bundle.graphs if graph.precision == "int8"}
    assert narrow == {"denoiser", "vae_decoder"}
    calls = read_report(root).calls
    assert calls == {"denoiser": 2 * 2 * 4, "vae_decoder": 2 * 8}
    with Pipeline.open(root, device="cpu", precision="int8") as pipeline:
        assert pipeline.clip(Shot(PROMPT, size=(80, 32))).shape == (29, 32, 80, 3)
