"""What a LoRA file adds to which module, in the three namings in which LoRAs are published.

    peft, diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight, lora_B, .alpha or metadata
    kohya             lora_unet_blocks_0_self_attn_q.lora_down.weight, lora_up, .alpha
    ComfyUI, Wan      diffusion_model.blocks.0.self_attn.q.lora_A.weight or lora_down, .alpha

Each may also hold differences in full: `.diff` of a weight and `.diff_b` of a bias. The weight of a
module becomes W + strength * (alpha / rank) * up @ down, with alpha = rank where none is given.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.checkpoint.source import is_here
from animatic_export.errors import LoraError

if TYPE_CHECKING:
    from animatic_export.checkpoint.tensors import Checkpoint

PREFIXES: Final = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "generator.",
    "model.",
    "net.",
)
"""What stands before the names of modules, in LoRAs and in checkpoints; one may follow another."""
KOHYA: Final = "lora_unet_"
"""What stands before kohya's names, in which "_" stands for "." too."""

_ENDINGS: Final = re.compile(
    r"(?P<module>.+)\.(?:(?P<down>lora_(?:A|down)(?:\.default)?\.weight)"
    r"|(?P<up>lora_(?:B|up)(?:\.default)?\.weight)|(?P<alpha>alpha)|(?P<diff>diff)"
    r"|(?P<diff_b>diff_b))"
)
_METADATA: Final = "lora_adapter_metadata"
"""Under which name diffusers writes peft's configuration into the header (`save_lora_weights`)."""
_PEFT_CONFIG: Final = "adapter_config.json"
"""Where peft writes it: beside `adapter_model.safetensors`."""


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to one module: the names of its tensors in the file, None for none.

    module: the module's name as the file has it, without its prefix.
    flat: "_" may stand for "." in it.
    scale: alpha / rank.
    """

    module: str
    flat: bool
    down: str | None
    up: str | None
    diff: str | None
    diff_b: str | None
    scale: float


class _PeftConfig(msgspec.Struct):
    """What is read of peft's LoraConfig."""

    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] = {}
    use_rslora: bool = False
    use_dora: bool = False

    def scale(self, module: str, rank: int) -> float:
        """Return alpha / rank of a module, whose alpha a pattern may name (as peft reads it)."""
        matches = (
            alpha
            for pattern, alpha in self.alpha_pattern.items()
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module)
        )
        alpha = next(matches, self.lora_alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def parse_adapter(text: str) -> tuple[str, float]:
    r"""Read "FILE" or "FILE:STRENGTH": what `source.locate` takes, and a finite strength (1.0).

    LoraError for a strength that is none. What ends like a path is one: C:\lora.safetensors, and
    owner/name:lora.safetensors on the hub.
    """
    file, colon, tail = text.rpartition(":")
    if not colon or is_here(text) or re.search(r"[/\\]|\.[A-Za-z]", tail):
        file, tail = text, "1"
    try:
        strength = float(tail)
    except ValueError:
        strength = math.nan
    if not file or not math.isfinite(strength):
        raise LoraError(
            f"{text!r} is not a LoRA and its strength: write FILE or FILE:STRENGTH, such as "
            "style.safetensors:0.8."
        )
    return file, strength


def strip_prefix(name: str) -> str:
    """Return a published name without what stands before its first module."""
    while prefix := next((known for known in PREFIXES if name.startswith(known)), ""):
        name = name.removeprefix(prefix)
    return name


def read_layers(lora: Checkpoint) -> list[LoraLayer]:
    """Return what a LoRA adds to each module; LoraError for anything in it that is not known."""
    found: dict[str, dict[str, str]] = {}
    for name in lora:
        match = _ENDINGS.fullmatch(name)
        if match is None:
            raise LoraError(
                f"{name} in {lora.path} is no part of a LoRA that is known here (lora_A and lora_B "
                "or lora_down and lora_up, alpha, diff, diff_b): give a plain LoRA."
            )
        kind = str(match.lastgroup)
        parts = found.setdefault(match["module"], {})
        if kind in parts:
            raise LoraError(
                f"{lora.path} has {parts[kind]} and {name}, which say the same: keep one of them."
            )
        parts[kind] = name
    config = _peft_config(lora)
    return [_layer(lora, module, parts, config) for module, parts in found.items()]


def _layer(lora: Checkpoint, module: str, parts: dict[str, str], config: _PeftConfig) -> LoraLayer:
    down, up, alpha = parts.get("down"), parts.get("up"), parts.get("alpha")
    if (down is None) != (up is None) or (alpha is not None and down is None):
        raise LoraError(
            f"{lora.path} has {', '.join(parts.values())} and not all of the lora_down and lora_up "
            "that belong to it: fetch the file again, or ask its author for a whole one."
        )
    flat = module.startswith(KOHYA)
    name = module.removeprefix(KOHYA) if flat else strip_prefix(module)
    scale = 1.0
    if down is not None and up is not None:
        rank = _rank(lora, down, up)
        scale = config.scale(name, rank) if alpha is None else _alpha(lora, alpha) / rank
    return LoraLayer(name, flat, down, up, parts.get("diff"), parts.get("diff_b"), scale)


def _rank(lora: Checkpoint, down: str, up: str) -> int:
    """Return the rank of a pair: rows of down [rank, in, …] and columns of up [out, rank, 1, …]."""
    low, high = lora.shape(down), lora.shape(up)
    if min(len(low), len(high)) < 2 or low[0] != high[1] or low[0] < 1 or set(high[2:]) - {1}:
        raise LoraError(
            f"{down} {list(low)} and {up} {list(high)} in {lora.path} do not multiply: the file is "
            "damaged, fetch it again."
        )
    return low[0]


def _alpha(lora: Checkpoint, name: str) -> float:
    values = lora[name]
    if values.numel() != 1 or not math.isfinite(float(values)):
        raise LoraError(
            f"{name} in {lora.path} is not one finite number: the file is damaged, fetch it again."
        )
    return float(values)


def _peft_config(lora: Checkpoint) -> _PeftConfig:
    """Return peft's configuration from the header or from beside the file; defaults if none."""
    beside = lora.path.parent / _PEFT_CONFIG
    text = lora.metadata.get(_METADATA)
    try:
        if text is not None:
            named = msgspec.json.decode(text, type=dict[str, object])
            # diffusers puts the component's name before each: "transformer.lora_alpha".
            values: object = {name.rpartition(".")[2]: value for name, value in named.items()}
        elif lora.path.name == "adapter_model.safetensors" and beside.is_file():
            values = msgspec.json.decode(beside.read_bytes())
        else:
            values = {}
        config = msgspec.convert(values, type=_PeftConfig)
        for pattern in config.alpha_pattern:
            re.compile(pattern)
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError, re.error) as error:
        raise LoraError(
            f"The configuration of {lora.path} is malformed ({error}): fetch it again."
        ) from error
    if config.use_dora:
        raise LoraError(f"{lora.path} is a DoRA, which is not read here: give a plain LoRA.")
    return config
