"""LoRAs merged into a checkpoint, under its published names and one tensor at a time.

A LoRA and a checkpoint may name the same module differently (diffusers' `blocks.0.attn1.to_q` is
the original's `blocks.0.self_attn.q`); `translate` brings both to one name. Everything that a LoRA
holds must find its place in the checkpoint before anything is merged.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from animatic.bundle import Adapter
from animatic_export.checkpoint.adapter import LoraLayer, read_layers, strip_prefix
from animatic_export.checkpoint.tensors import Tensors
from animatic_export.errors import LoraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from animatic_export.checkpoint.tensors import Checkpoint

    Translate = Callable[[str], str]

_PARAMETERS: Final = ("weight", "bias")
_MERGEABLE: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_MOST_UNDERSCORES: Final = 12
"""In a flat name; the longest of Wan and LTX-Video have 7."""


class _Change(NamedTuple):
    """What one LoRA adds to one tensor: scale * up @ down, or scale * down if there is no up."""

    lora: Checkpoint
    down: str
    up: str | None
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is added."""
        shape = self.lora.shape(self.down)
        return shape if self.up is None else (self.lora.shape(self.up)[0], *shape[1:])

    def add_to(self, tensor: Tensor) -> Tensor:
        """Return the tensor with this added, in its own type."""
        down = self.lora[self.down].to(tensor.dtype)
        if self.up is None:
            return torch.add(tensor, down, alpha=self.scale)
        up = self.lora[self.up].to(tensor.dtype)
        rows = tensor.flatten(1)
        return torch.addmm(rows, up.flatten(1), down.flatten(1), alpha=self.scale).view_as(tensor)


class Merged(Tensors):
    """A checkpoint with LoRAs added; a tensor is computed each time that it is taken.

    What a LoRA touches is float32 (or wider), whatever the checkpoint is: rounded to bfloat16,
    which has 8 bits, much of a small difference would be lost.
    adapters: what was merged, for the bundle's provenance.
    """

    def __init__(
        self,
        base: Tensors,
        changes: Mapping[str, Sequence[_Change]],
        adapters: tuple[Adapter, ...],
    ) -> None:
        self.adapters = adapters
        self._base = base
        self._changes = changes

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without loading it."""
        return self._base.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor without loading it."""
        dtype = self._base.dtype(name)
        return torch.promote_types(dtype, torch.float32) if name in self._changes else dtype

    def __getitem__(self, name: str) -> Tensor:
        """Load one tensor and what is added to it."""
        tensor = self._base[name].to(self.dtype(name))
        for change in self._changes.get(name, ()):
            tensor = change.add_to(tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Go over the names."""
        return iter(self._base)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._base)


def merge(
    base: Tensors,
    adapters: Sequence[tuple[Checkpoint, float]],
    translate: Translate | None = None,
) -> Merged:
    """Add LoRAs, each its file and its strength, to a checkpoint; nothing is loaded yet.

    translate: the one name of a module, for each of its published names; a name that it does not
        know comes back as it is. None: LoRA and checkpoint have the same names.
    LoraError if any part of a LoRA has no place in the checkpoint, or not the right shape.
    """
    translate = translate or str
    targets = _targets(base, translate)
    changes: dict[str, list[_Change]] = {}
    entries: list[Adapter] = []
    for lora, strength in adapters:
        for name, change in _place(lora, strength, targets, translate):
            _check_fit(base, name, change)
            changes.setdefault(name, []).append(change)
        entries.append(Adapter(file=lora.path.name, sha256=lora.sha256, strength=strength))
    return Merged(base, changes, tuple(entries))


def _targets(base: Tensors, translate: Translate) -> dict[str, str]:
    """Return the checkpoint's names by "module.weight", "module.bias", or the parameter's own."""
    targets: dict[str, str] = {}
    for name in base:
        module, _, parameter = strip_prefix(name).rpartition(".")
        key = (
            f"{translate(module)}.{parameter}"
            if module and parameter in _PARAMETERS
            else translate(strip_prefix(name))
        )
        if key in targets:
            raise LoraError(
                f"{targets[key]} and {name} of the checkpoint are the same to a LoRA ({key}): give "
                "the checkpoint of one model alone."
            )
        targets[key] = name
    return targets


def _place(
    lora: Checkpoint, strength: float, targets: Mapping[str, str], translate: Translate
) -> Iterator[tuple[str, _Change]]:
    """Give the checkpoint's name of each tensor that a LoRA changes, and how."""
    placed: dict[tuple[str, bool], _Change] = {}
    homeless: list[str] = []
    for layer in read_layers(lora):
        for endings, change in _changes(lora, layer, strength):
            name = _find(layer, endings, targets, translate)
            if name is None:
                homeless.append(change.down)
                continue
            other = placed.setdefault((name, change.up is None), change)
            if other is not change:
                raise LoraError(
                    f"{other.down} and {change.down} in {lora.path} are both for {name}: the file "
                    "is two LoRAs in one; give one of them."
                )
    if not placed:
        raise LoraError(
            f"Nothing in {lora.path} belongs to this checkpoint, {homeless[0]} for one: the LoRA "
            "is for another model; give one made for this."
        )
    if homeless:
        raise LoraError(
            f"{len(homeless)} of the {len(homeless) + len(placed)} parts of {lora.path} have no "
            f"place in this checkpoint, {homeless[0]} for one: the LoRA is for another variant of "
            "the model; give one made for this."
        )
    return ((name, change) for (name, _), change in placed.items())


def _changes(
    lora: Checkpoint, layer: LoraLayer, strength: float
) -> Iterator[tuple[tuple[str, ...], _Change]]:
    """Give what a layer adds, and the endings of the parameter that each may be for."""
    if layer.down is not None:
        yield (".weight",), _Change(lora, layer.down, layer.up, strength * layer.scale)
    if layer.diff is not None:
        # A parameter may have no module of its own: `blocks.0.modulation.diff`.
        yield (".weight", ""), _Change(lora, layer.diff, None, strength)
    if layer.diff_b is not None:
        yield (".bias",), _Change(lora, layer.diff_b, None, strength)


def _find(
    layer: LoraLayer, endings: tuple[str, ...], targets: Mapping[str, str], translate: Translate
) -> str | None:
    """Return the checkpoint's name for a parameter of the layer's module."""
    modules = _readings(layer.module) if layer.flat else iter((layer.module,))
    keys = {translate(module) for module in modules}
    for ending in endings:
        found = sorted(targets[key + ending] for key in keys if key + ending in targets)
        if len(found) > 1:
            raise LoraError(
                f"{layer.module} of the LoRA may mean {' or '.join(found)}: give it in a naming "
                "with dots."
            )
        if found:
            return found[0]
    return None


def _readings(flat: str) -> Iterator[str]:
    """Give every name that a flat one may stand for, each "_" read as "." or as itself."""
    first, *others = flat.split("_")
    if len(others) > _MOST_UNDERSCORES:
        return
    for joints in product("._", repeat=len(others)):
        yield first + "".join(joint + word for joint, word in zip(joints, others, strict=True))


def _check_fit(base: Tensors, name: str, change: _Change) -> None:
    if base.dtype(name) not in _MERGEABLE:
        raise LoraError(
            f"{name} of the checkpoint is quantised ({base.dtype(name)}) and takes no LoRA: give "
            "the checkpoint in bfloat16, float16 or float32."
        )
    if change.shape != base.shape(name):
        raise LoraError(
            f"{change.down} in {change.lora.path} is for a weight of {list(change.shape)} and "
            f"{name} has {list(base.shape(name))}: the LoRA is for a model of another size; give "
            "one made for this."
        )
