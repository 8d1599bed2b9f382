"""Reading Blockout's released checkpoints: safetensors with the networks' shapes as metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from safetensors import SafetensorError, safe_open

from animatic_export.blockout.clip_release import ClipRelease
from animatic_export.blockout.window_release import WindowRelease
from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from animatic_export.blockout.release import Release

__all__ = ["FORMAT", "WINDOW_FORMAT", "OpenedCheckpoint", "read_checkpoint"]

FORMAT: Final = "blockout-1"
"""What the metadata of a checkpoint of version 0 calls its format."""
WINDOW_FORMAT: Final = "blockout-2"
"""The same of version 1. Its metadata, all JSON but for `format`: `vae`, `window` and `clip`, the
configs of `animatic_export.blockout.config` (VaeConfig, WindowConfig, ShotConfig); `schedules`,
lists of descending sigmas without the final 0, the usual one first; `scores`, numbers by name;
`card`, sentences by name; `text_max_tokens`. Its tensors, float16 or float32: `vae.*` and
`denoiser.*`."""

_Value = TypeVar("_Value")
_Module = TypeVar("_Module", bound="nn.Module")


class OpenedCheckpoint:
    """A checkpoint's metadata and tensors; whoever asks for what it lacks gets a CheckpointError.

    format: what it says it is; None if it does not say.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(
                f"There is no checkpoint {path}: train one with `animatic train`, or give another."
            )
        self._path = path
        try:
            with safe_open(path, framework="pt") as file:
                self._metadata: Mapping[str, str] = file.metadata() or {}
                self._tensors: Mapping[str, Tensor] = {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118
                }
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is truncated or not a safetensors file ({error}): fetch it again."
            ) from error
        self.format = self._metadata.get("format")

    def value(self, key: str, kind: type[_Value]) -> _Value:
        """Decode a value of the metadata."""
        try:
            return msgspec.json.decode(self._metadata[key], type=kind)
        except KeyError as error:
            raise CheckpointError(
                f"The metadata of {self._path} lacks {error}: write it again with `animatic train`."
            ) from error
        except (msgspec.DecodeError, ValueError) as error:
            raise CheckpointError(
                f"The metadata of {self._path} is malformed ({error}): write it again with "
                "`animatic train`."
            ) from error

    def filled(self, name: str, module: _Module) -> _Module:
        """Give a module its tensors, in float32, as half precision has them.

        So it is what a bundle holds, whatever the checkpoint was written in.
        """
        tensors = {
            key.removeprefix(f"{name}."): tensor.half().float()
            for key, tensor in self._tensors.items()
            if key.startswith(f"{name}.")
        }
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"The tensors of {self._path} do not fit the shapes it names ({error}): train it "
                "again."
            ) from error
        return module.eval().requires_grad_(requires_grad=False)


_READERS: Final[Mapping[str | None, Callable[[OpenedCheckpoint], Release]]] = {
    FORMAT: ClipRelease.read,
    WINDOW_FORMAT: WindowRelease.read,
}


def read_checkpoint(path: Path) -> Release:
    """Load a checkpoint that `animatic train` wrote; CheckpointError if it is another's."""
    opened = OpenedCheckpoint(path)
    if opened.format not in _READERS:
        raise CheckpointError(
            f"{path} is not a Blockout checkpoint (format {opened.format!r}, expected "
            f"{' or '.join(map(repr, filter(None, _READERS)))}): give the `blockout.safetensors` "
            "of a training run."
        )
    return _READERS[opened.format](opened)
