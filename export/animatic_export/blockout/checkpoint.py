"""Reading Blockout's released checkpoint: safetensors with the networks' shapes as metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from safetensors import SafetensorError, safe_open

from animatic_export.blockout.config import ClipConfig, DenoiserConfig, VaeConfig
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.vae import VideoVae
from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

FORMAT: Final = "blockout-1"
"""What the metadata of a checkpoint calls its format."""


@dataclass(frozen=True)
class BlockoutCheckpoint:
    """A trained Blockout, in float32."""

    vae: VideoVae
    vae_config: VaeConfig
    denoiser: Denoiser
    clip: ClipConfig
    """The clips it was trained on."""
    sigmas: tuple[float, ...]
    scores: dict[str, float]


def read_checkpoint(path: Path) -> BlockoutCheckpoint:
    """Load a checkpoint that `animatic train` wrote; CheckpointError if it is another's."""
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint {path}: train one with `animatic train`, or give another."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}): fetch it again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a Blockout checkpoint (format {metadata.get('format')!r}, expected "
            f"{FORMAT!r}): give the `blockout.safetensors` of a training run."
        )
    try:
        vae_config = msgspec.json.decode(metadata["vae"], type=VaeConfig)
        denoiser_config = msgspec.json.decode(metadata["denoiser"], type=DenoiserConfig)
        clip = msgspec.json.decode(metadata["clip"], type=ClipConfig)
        sigmas = msgspec.json.decode(metadata["sigmas"], type=tuple[float, ...])
        scores: dict[str, float] = json.loads(metadata["scores"])
    except KeyError as error:
        raise CheckpointError(
            f"The metadata of {path} lacks {error}: write it again with `animatic train`."
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise CheckpointError(
            f"The metadata of {path} is malformed ({error}): write it again with `animatic train`."
        ) from error
    vae, denoiser = VideoVae(vae_config), Denoiser(denoiser_config)
    try:
        vae.load_state_dict(_part(tensors, "vae."))
        denoiser.load_state_dict(_part(tensors, "denoiser."))
    except RuntimeError as error:
        raise CheckpointError(
            f"The tensors of {path} do not fit the shapes it names ({error}): train it again."
        ) from error
    return BlockoutCheckpoint(
        vae=vae.eval(),
        vae_config=vae_config,
        denoiser=denoiser.eval(),
        clip=clip,
        sigmas=sigmas,
        scores=scores,
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
