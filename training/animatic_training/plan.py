"""What a configuration costs, counted before anything is run.

Operations (a multiplication and an addition are two) are counted by torch's own counter over the
networks of the configuration, on tensors without memory, so that the plan cannot differ from what
is trained. Matrix products and convolutions are counted, Muon's too; what moves memory (norms,
rotations, AdamW) is in the utilisation, the share of a card's peak that is assumed. Starting torch
and its compiler comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from animatic_export.blockout.minilm import WIDTH, MiniLm
from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from animatic_training.config import PIECE_FRAMES, PIECE_LATENTS
from animatic_training.learner import block_matrices, kernels
from animatic_training.muon import orthogonalise
from animatic_training.pieces import Shard, draw_piece
from animatic_training.probe import FRAMES, SHAPE, Probe
from animatic_training.train_denoiser import WHOLE, draw_tokens
from animatic_training.train_probe import DECODED_EVERY
from animatic_training.windows import PATTERNS
from animatic_training.world.raycast_torch import render_stages
from animatic_training.world.stage import set_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch._ops import OpOverload

    from animatic_training.config import Config, Size

PEAK: Final = 989e12
"""Operations a second of an H100 SXM in bfloat16, dense (NVIDIA's data sheet)."""
COUNTED_PIECES: Final = 4
UTILISATION: Final = {"draw": 0.01, "vae": 0.15, "denoiser": 0.3, "probe": 0.12}
"""Assumed shares of that peak. Drawing has no matrix products: 0.01 is 15 % of what a card does in
float32 without tensor cores, 67 TFLOP/s. Convolutions of 48 channels and attention over 500
tokens are bound by memory; large language models come to about 0.4."""


@dataclass(frozen=True)
class Cost:
    """Of one stage, or of a part of one."""

    stage: str
    operations: float
    """Of one step."""
    kind: str
    """Of work, as `UTILISATION` names it."""
    batch: int
    """Pieces, crops, windows or prompts of one step."""
    minutes: float | None = None
    """By the clock; None where the work is fixed."""
    steps: float = 0.0
    """Where the work is fixed."""

    def speed(self, given: float | None) -> float:
        """Return operations a second: those given, or an H100's."""
        return given or PEAK * UTILISATION[self.kind]

    def predicted(self, given: float | None) -> tuple[float, float]:
        """Return steps and seconds."""
        seconds = self.operations / self.speed(given)
        if self.minutes is not None:
            return 60 * self.minutes / seconds, 60 * self.minutes
        return self.steps, self.steps * seconds


def count(run: Callable[[], object]) -> int:
    """Return the operations of whatever runs, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


def _count_pass(run: Callable[[], Tensor], *, trained: bool) -> int:
    """Count a forward pass, or one with its backward pass."""
    return count(lambda: run().sum().backward()) if trained else count(run)


def _blank(*shape: int) -> Tensor:
    return torch.zeros(shape, device="meta")


def denoiser_operations(
    config: Config,
    size: Size,
    batch: int,
    length: int,
    *,
    trained: bool = False,
    share: float = 1.0,
) -> int:
    """Return the operations of a pass over `batch` windows of `length` latent frames.

    share: of their tokens that are looked at.
    """
    with torch.device("meta"):
        denoiser = WindowDenoiser(config.window)
    rows, columns = size.grid
    latents = _blank(batch, config.vae.latent_channels, length, rows, columns)
    times = _blank(batch, length)
    states = _blank(batch, config.text_max_tokens, WIDTH)
    mask = torch.ones(batch, config.text_max_tokens, dtype=torch.bool, device="meta")

    def run() -> Tensor:
        text, prompt = denoiser.read(states, mask)
        kept = draw_tokens(latents, share)
        return denoiser.velocity(latents, times, times, text, prompt, mask, kept)

    return _count_pass(run, trained=trained)


def over_a_phase(config: Config, operations: Callable[[float], float]) -> float:
    """Return a step's mean cost over a phase, from its cost by the share of tokens looked at.

    The phase is divided by the clock, so it is speeds that are averaged.
    """
    few, whole = operations(config.train.token_share), operations(1.0)
    return 1 / (WHOLE / few + (1 - WHOLE) / whole)


def window_operations(
    config: Config, batch: int, *, trained: bool = False, share: float = 1.0
) -> float:
    """Return the operations of a pass over a batch of windows, a mean over all patterns."""
    shares = msgspec.structs.asdict(config.train.patterns)
    lengths = {PATTERNS[name].length for name in shares}
    own = {
        length: denoiser_operations(
            config, config.sizes[0], batch, length, trained=trained, share=share
        )
        for length in lengths | {max(lengths) + 1}
    }
    # Patterns have 4 or 6 latent frames; a window with stills has 1.3 of them on average
    # (`windows.draw_pattern`), each of which costs about what the last one does.
    still = own[max(lengths) + 1] - own[max(lengths)]
    mean = sum(often * own[PATTERNS[name].length] for name, often in shares.items())
    return mean / sum(shares.values()) + 1.3 * config.train.still_share * still


def render_operations(config: Config) -> float:
    """Return the operations of drawing a piece on an accelerator, a mean over the first few.

    They are no matrix products: every number that any operation makes counts as one.
    """
    shard = Shard("piece", 0)
    size = shard.size(config)
    stages = [
        set_stage(draw_piece(config, shard, n).scene(), size.height) for n in range(COUNTED_PIECES)
    ]
    with _Numbers() as numbers:
        render_stages(stages, size.height, size.width, "meta")
    return numbers.made / len(stages)


class _Numbers(TorchDispatchMode):
    """Counts the numbers that operations make; views make none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made = 0

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401, whatever the operation gives
        del types
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.made += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out


def text_operations(config: Config, captions: int) -> int:
    """Return the operations of encoding captions."""
    with torch.device("meta"):
        model = MiniLm()
    ids = torch.zeros(captions, config.text_max_tokens, dtype=torch.int64, device="meta")
    return count(lambda: model(ids, torch.ones_like(ids)))


def vae_operations(config: Config) -> int:
    """Return the operations of one training step of the VAE."""
    settings = config.vae_training
    with torch.device("meta"):
        vae = VideoVae(config.vae)
    video = _blank(settings.batch, settings.frames, 3, settings.crop, settings.crop)
    return _count_pass(lambda: vae.decode(vae.encode(video)[0]), trained=True)


def coding_operations(config: Config, frames: int) -> tuple[int, int]:
    """Return the operations of encoding and of decoding a clip of the usual size."""
    with torch.device("meta"):
        vae = VideoVae(config.vae)
    size = config.sizes[0]
    video = _blank(1, frames, 3, size.height, size.width)
    latents = _blank(1, config.vae.latent_channels, 1 + (frames - 1) // vae.factor, *size.grid)
    return count(lambda: vae.encode(video)), count(lambda: vae.decode(latents))


def probe_operations(batch: int) -> int:
    """Return the operations of one training step of the probe."""
    with torch.device("meta"):
        probe = Probe()
    video = _blank(batch, SHAPE.frames, 3, SHAPE.height, SHAPE.width)
    return _count_pass(lambda: torch.cat(probe(video), dim=1), trained=True)


def distillation_operations(config: Config, method: str) -> float:
    """Return the operations of one step of distillation, a mean over its schedules."""
    settings = config.distill
    forward = window_operations(config, settings.batch)
    trained = window_operations(config, settings.batch, trained=True)
    shares = [share / sum(settings.schedule_shares) for share in settings.schedule_shares]
    pairs = list(zip(settings.schedules, shares, strict=True))
    guided = 1 if settings.guidance == 1.0 else 2  # passes of the teacher for one velocity
    if method == "perflow":
        walked = guided * sum(settings.teacher_substeps)
        return forward * walked + trained * sum(share * len(own) for own, share in pairs)
    before = sum(share * (len(own) - 1) / 2 for own, share in pairs)
    critic = settings.critic_steps * (forward * (before + 1) + trained)
    return critic + forward * (before + guided + 1) + trained


def muon_operations(matrices: Iterable[Tensor]) -> int:
    """Return the operations of one step of Muon on a module's matrices or kernels."""
    return count(lambda: [orthogonalise(_blank(*m.flatten(1).shape)) for m in matrices])


def costs(config: Config, method: str) -> list[Cost]:
    """Return what the stages cost."""
    train, data, usual = config.train, config.data, config.sizes[0]
    kept = (data.pixel_shards + data.held_out_shards) * data.pieces_per_shard
    pieces = data.piece_shards * data.pieces_per_shard
    stills = data.still_shards * data.stills_per_shard
    drawing = render_operations(config)
    drawn = pieces - data.pixel_shards * data.pieces_per_shard + stills / PIECE_FRAMES
    encode_piece, decode_piece = coding_operations(config, PIECE_FRAMES)
    encode_still, _ = coding_operations(config, 1)
    # A step of encoding is one piece with its two stills; stills are brought to that.
    encoding = encode_piece + 2 * encode_still
    views = 1 + data.mirrored
    encoded = views * (pieces + stills * encode_still / encoding)
    with torch.device("meta"):
        blocks = muon_operations(block_matrices(WindowDenoiser(config.window)))
        convolutions = muon_operations(kernels(VideoVae(config.vae)))
    stills_seen, windows = train.still_batch, train.batch
    read_stills = text_operations(config, stills_seen // train.views)
    read_windows = text_operations(config, windows // train.views)

    def still_cost(share: float) -> float:
        cost = denoiser_operations(config, usual, stills_seen, 1, trained=True, share=share)
        return cost + read_stills + blocks

    def window_cost(share: float) -> float:
        cost = window_operations(config, windows, trained=True, share=share)
        return cost + read_windows + blocks

    still_step, window_step = over_a_phase(config, still_cost), over_a_phase(config, window_cost)
    distilling = distillation_operations(config, method)
    probing = probe_operations(config.probe.batch)
    probing += config.probe.batch * sum(coding_operations(config, FRAMES)) // DECODED_EVERY
    scoring = _scoring_operations(config, decode_piece / PIECE_LATENTS)
    taught = sum(map(len, config.distill.schedules)) / len(config.distill.schedules)
    updates = config.distill.critic_steps + 1 if method == "dmd" else taught
    vae, distill, probe = config.vae_training, config.distill, config.probe
    return [
        Cost("render", drawing, "draw", 1, steps=kept),
        Cost("vae", vae_operations(config) + convolutions, "vae", vae.batch, vae.minutes),
        Cost("latents: drawn", drawing, "draw", 1, steps=drawn),
        Cost("latents: encoded", encoding, "vae", 1, steps=encoded),
        Cost("stills", still_step, "denoiser", train.still_batch, train.still_minutes),
        Cost("denoiser", window_step, "denoiser", train.batch, train.minutes),
        Cost("distill", distilling + updates * blocks, "denoiser", distill.batch, distill.minutes),
        Cost("probe", probing, "probe", probe.batch, probe.minutes),
        Cost("score", scoring, "denoiser", 1, steps=config.score.prompts),
    ]


def _scoring_operations(config: Config, decode_latent: float) -> float:
    """Return the operations of scoring one prompt: teacher and one method's students.

    Long shots, loops and given pictures (four times the blocks, of few prompts) are left out.
    """
    block = denoiser_operations(config, config.sizes[0], 1, 4)
    many = 2 * 2 * config.score.teacher_steps  # guided; once more with held-out words
    few = 2 * len(config.distill.schedules[0]) + sum(map(len, config.distill.schedules[1:]))
    clips = 4 + len(config.distill.schedules) - 1
    return block * (many + few) + clips * 4 * decode_latent


def parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def memory(config: Config) -> dict[str, float]:
    """Return what lies on the device that trains, in GB, activations not counted.

    `training`: the denoiser's weights, their average, gradients and two moments, float32.
    """
    data, size = config.data, config.sizes[0]
    with torch.device("meta"):
        denoiser = WindowDenoiser(config.window)
    views = 1 + data.mirrored
    pieces = views * data.piece_shards * data.pieces_per_shard
    stills = views * data.still_shards * data.stills_per_shard or 3 * pieces
    latent = config.vae.latent_channels * size.grid[0] * size.grid[1] * 2
    piece = PIECE_FRAMES * size.width * size.height * 3
    return {
        "latents of pieces": pieces * (PIECE_LATENTS + 2) * latent / 1e9,
        "latents of stills": stills * latent / 1e9,
        "pixels of VAE and probe": data.pixel_shards * data.pieces_per_shard * piece / 1e9,
        "training": parameters(denoiser) * 4 * 5 / 1e9,
    }


def describe(config: Config, method: str, given: float | None = None) -> str:
    """Return the plan as a table: counted operations, predicted steps and seconds.

    `given`: operations a second that are reached; None is an H100 at the shares of its peak above.
    """
    with torch.device("meta"):
        networks = {"VAE": VideoVae(config.vae), "denoiser": WindowDenoiser(config.window)}
    lines = [
        f"{name}: {parameters(network) / 1e6:.1f} million parameters"
        for name, network in networks.items()
    ]
    titles = ("GFLOP a step", "TFLOP/s", "steps", "seen", "seconds")
    lines.append(f"{'stage':<18}" + "".join(f"{title:>13}" for title in titles))
    total = 0.0
    for cost in costs(config, method):
        steps, seconds = cost.predicted(given)
        total += seconds
        lines.append(
            f"{cost.stage:<18}{cost.operations / 1e9:>13,.1f}{cost.speed(given) / 1e12:>13.3g}"
            f"{steps:>13,.0f}{steps * cost.batch:>13,.0f}{seconds:>13,.0f}"
        )
    lines.append(f"{'all':<18}{total:>65,.0f}")
    lines += [f"{name}: {gigabytes:.1f} GB" for name, gigabytes in memory(config).items()]
    return "\n".join(lines)
