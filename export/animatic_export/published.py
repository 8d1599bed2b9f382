"""Where the parts of a published model are: in one folder, or in a file and a base beside it.

A folder in diffusers' layout has `transformer`, `vae`, `text_encoder` and `tokenizer`, of which the
networks have a config.json each. A single file holds the denoiser alone, or with the VAE: what it
lacks comes from a base, which is such a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from animatic_export.checkpoint.adapter import parse_adapter
from animatic_export.checkpoint.digest import combine, hash_files
from animatic_export.checkpoint.licence import FoundLicence, find_licence
from animatic_export.checkpoint.source import CARD, locate
from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_export.checkpoint.tensors import Checkpoint
    from animatic_export.recipe import Request

__all__ = ["PublishedModel", "find_model", "read_config"]


@dataclass(frozen=True)
class PublishedModel:
    """A model's parts on this machine.

    checkpoint: the file, or the folder in diffusers' layout. denoiser: its tensors.
    base: the folder of the other parts; base_parts: those of it that are needed.
    tiny_decoder: TAEHV's tensors, or None. adapters: LoRA files and strengths.
    licences: of each source, the checkpoint's first.
    """

    checkpoint: Path
    base: Path
    base_parts: tuple[str, ...]
    denoiser: Checkpoint
    tiny_decoder: Checkpoint | None
    adapters: tuple[tuple[Path, float], ...]
    licences: tuple[FoundLicence, ...]

    @property
    def is_single_file(self) -> bool:
        """Whether the checkpoint is a file, which has no configs."""
        return self.checkpoint.is_file()

    def config(self, part: str) -> dict[str, object] | None:
        """Read a part's config.json, the checkpoint's own before the base's; None without one."""
        for folder in (self.checkpoint, self.base):
            file = folder / part / "config.json"
            if file.is_file():
                return read_config(file)
        return None

    def digest(self, settings: str) -> str:
        """Hash every file that an export reads, and what else decides it: SHA-256 in hex.

        settings: any text.
        """
        hashes: dict[str, str] = {}
        sources = {"checkpoint": self.denoiser}
        for part in self.base_parts:
            folder = self.base / part
            if part == "tokenizer":
                files = sorted(path for path in folder.iterdir() if path.is_file())
                hashes |= {f"{part}/{name}": sha for name, sha in hash_files(files, folder).items()}
            else:
                sources[part] = open_tensors(folder)
        if self.tiny_decoder is not None:
            sources["tiny_decoder"] = self.tiny_decoder
        for place, (path, strength) in enumerate(self.adapters):
            sources[f"adapter {place} of {strength}"] = open_tensors(path)
        hashes |= {name: source.sha256 for name, source in sources.items()}
        return combine(hashes | {f"settings {settings}": ""})


def find_model(
    name: str, request: Request, example: str, *, key: str | None = None, has_vae: bool = False
) -> PublishedModel:
    """Find every part that a request names; ExportError says what is missing.

    name: the recipe's. example: a base that has what the recipe needs. key: see `open_tensors`.
    has_vae: whether a single file of this family brings the VAE too.
    """
    if request.checkpoint is None:
        raise ExportError(
            f"{name} has no weights of its own: give --checkpoint, a folder, a file or a hub id."
        )
    others = ("text_encoder", "tokenizer", "vae")
    whole = ("transformer",) if request.base else ("transformer", *others)
    checkpoint = locate(request.checkpoint, [f"{part}/*" for part in whole])
    base_parts = others[:2] if has_vae and checkpoint.is_file() else others
    if request.base is None and checkpoint.is_file():
        raise ExportError(
            f"{checkpoint.name} holds no {' and no '.join(base_parts)}: give a folder that does "
            f"with --base, such as --base {example}."
        )
    base = checkpoint
    sources = [(request.checkpoint, checkpoint)]
    if request.base is not None:
        patterns = [f"{part}/*" for part in base_parts]
        base = locate(request.base, patterns, [*CARD, "transformer/config.json"])
        sources.append((request.base, base))
    if not base.is_dir():
        raise ExportError(f"{base} is a file: give as --base a folder in diffusers' layout.")
    tiny = None
    if request.tiny_decoder is not None:
        file = locate(request.tiny_decoder)
        tiny = open_tensors(file)
        sources.append((request.tiny_decoder, file))
    adapters = []
    for text in request.adapters:
        reference, strength = parse_adapter(text)
        file = locate(reference)
        adapters.append((file, strength))
        sources.append((reference, file))
    weights = checkpoint if checkpoint.is_file() else checkpoint / "transformer"
    return PublishedModel(
        checkpoint=checkpoint,
        base=base,
        base_parts=base_parts,
        denoiser=open_tensors(weights, key),
        tiny_decoder=tiny,
        adapters=tuple(adapters),
        licences=tuple(find_licence(reference, path) for reference, path in sources),
    )


def read_config(file: Path) -> dict[str, object]:
    """Read a config.json; CheckpointError if it is none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): fetch it again.") from error
