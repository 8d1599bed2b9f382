"""Where the parts of a published model are: in one folder, or in a file and a base beside it.

A folder in diffusers' layout has `transformer`, `vae`, `text_encoder` and `tokenizer`, of which the
networks have a config.json each. A single file holds the denoiser alone, or with the VAE, and a
folder may be that of a transformer alone: what they lack comes from a base, which is such a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.checkpoint.adapter import parse_adapter
from animatic_export.checkpoint.digest import combine, hash_files
from animatic_export.checkpoint.layout import STEMS, has_weights
from animatic_export.checkpoint.licence import FoundLicence, find_licence
from animatic_export.checkpoint.source import CARD, WHOLE, hub_reference, is_here, locate
from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic_export.checkpoint.tensors import Checkpoint
    from animatic_export.recipe import Request

__all__ = ["PublishedModel", "Whereabouts", "find_model", "read_config"]

OTHERS: Final = ("text_encoder", "tokenizer", "vae")
TAEHV: Final = "madebyollin/taehv"


@dataclass(frozen=True)
class Whereabouts:
    """What a recipe says of where its model is published.

    checkpoint, base: hub ids of the denoiser and of a folder with all else.
    judge: refuses the configs of another model, by part, as CheckpointError.
    has_vae: whether a single file of this family brings the VAE too.
    """

    checkpoint: str
    base: str
    judge: Callable[[Mapping[str, Mapping[str, object]]], None]
    has_vae: bool = False


@dataclass(frozen=True)
class PublishedModel:
    """A model's parts on this machine.

    checkpoint: the file, or the folder, that the denoiser is of. transformer: the denoiser's own.
    base: the folder of the other parts. tokenizer: its folder.
    denoiser, text_encoder, vae: their tensors; a single file's VAE is among its denoiser's.
    tiny_decoder: TAEHV's tensors, or None. adapters: LoRAs and their strengths.
    licences: of each source, the checkpoint's first.
    """

    checkpoint: Path
    transformer: Path
    base: Path
    denoiser: Checkpoint
    text_encoder: Checkpoint
    vae: Checkpoint
    tiny_decoder: Checkpoint | None
    adapters: tuple[tuple[Checkpoint, float], ...]
    licences: tuple[FoundLicence, ...]

    @property
    def is_single_file(self) -> bool:
        """Whether the checkpoint is a file, which has no configs."""
        return self.checkpoint.is_file()

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self.base / "tokenizer"

    def config(self, part: str) -> dict[str, object] | None:
        """Read the config.json that belongs to a part; None without one.

        The transformer's is the checkpoint's own before the base's: every other part is the base's.
        """
        folders = [self.base / part]
        if part == "transformer":
            folders.insert(0, self.transformer)
        for folder in folders:
            file = folder / "config.json"
            if file.is_file():
                return read_config(file)
        return None

    def digest(self, settings: str) -> str:
        """Hash every file that an export reads, and what else decides it: SHA-256 in hex.

        settings: any text.
        """
        files = sorted(path for path in self.tokenizer.iterdir() if path.is_file())
        hashes = {f"tokenizer/{n}": sha for n, sha in hash_files(files, self.tokenizer).items()}
        sources = {
            "checkpoint": self.denoiser,
            "text_encoder": self.text_encoder,
            "vae": self.vae,
        }
        if self.tiny_decoder is not None:
            sources["tiny_decoder"] = self.tiny_decoder
        for place, (lora, strength) in enumerate(self.adapters):
            sources[f"adapter {place} of {strength}"] = lora
        hashes |= {name: source.sha256 for name, source in sources.items()}
        return combine(hashes | {f"settings {settings}": ""})


def find_model(name: str, request: Request, places: Whereabouts) -> PublishedModel:
    """Find every part that a request names; ExportError says what is missing.

    name: the recipe's.
    """
    if request.checkpoint is None:
        raise ExportError(
            f"{name} has no weights of its own: give --checkpoint, a folder, a file or a hub id."
        )
    checkpoint, transformer = _find_denoiser(request, request.checkpoint, places)
    has_vae = places.has_vae and checkpoint.is_file()
    others = OTHERS[:2] if has_vae else OTHERS
    if request.base is None and checkpoint == transformer:
        raise ExportError(
            f"{checkpoint.name} holds no {' and no '.join(others)}: give a folder that does "
            f"with --base, such as --base {places.base}."
        )
    base = checkpoint
    licences = [find_licence(request.checkpoint, checkpoint, places.checkpoint)]
    if request.base is not None:
        patterns = [f"{part}/*" for part in others]
        _configs_first(request.base, places)
        base = locate(request.base, patterns, [*CARD, "transformer/config.json"])
        licences.append(find_licence(request.base, base, places.base))
    if not base.is_dir():
        raise ExportError(f"{base} is a file: give as --base a folder in diffusers' layout.")
    tiny = None
    if request.tiny_decoder is not None:
        file = locate(request.tiny_decoder)
        tiny = open_tensors(file)
        licences.append(find_licence(request.tiny_decoder, file, TAEHV))
    adapters = []
    for text in request.adapters:
        reference, strength = parse_adapter(text)
        file = locate(reference)
        adapters.append((open_tensors(file), strength))
        licences.append(find_licence(reference, file))
    denoiser = open_tensors(transformer)
    return PublishedModel(
        checkpoint=checkpoint,
        transformer=transformer,
        base=base,
        denoiser=denoiser,
        text_encoder=open_tensors(base / "text_encoder"),
        vae=denoiser if has_vae else open_tensors(base / "vae"),
        tiny_decoder=tiny,
        adapters=tuple(adapters),
        licences=tuple(licences),
    )


def _find_denoiser(request: Request, reference: str, places: Whereabouts) -> tuple[Path, Path]:
    """Return the checkpoint, and the file or folder in it that is the denoiser's own."""
    seen = _configs_first(reference, places)
    if seen is not None and _is_transformer(seen):
        alone = locate(reference, [f"{STEMS[0]}*"], [*CARD, "config.json"])
        return alone, alone
    parts = ("transformer",) if request.base else ("transformer", *OTHERS)
    advice = WHOLE
    if request.base is None:
        advice += f", or what it lacks with --base, such as --base {places.base}"
    checkpoint = locate(reference, [f"{part}/*" for part in parts], advice=advice)
    return checkpoint, checkpoint if checkpoint.is_file() else checkpoint / "transformer"


def _configs_first(reference: str, places: Whereabouts) -> Path | None:
    """Return a folder, of the hub's its configs alone, judged before weights are fetched.

    None for a file.
    """
    hub = hub_reference(reference)
    if hub is None:
        here = Path(reference).expanduser()
        return here if is_here(here) and here.is_dir() else None
    if hub.file is not None:
        return None
    folder = locate(reference, (), ["config.json", "*/config.json"])
    files = {part: folder / part / "config.json" for part in ("transformer", *OTHERS)}
    places.judge({part: read_config(file) for part, file in files.items() if file.is_file()})
    return folder


def _is_transformer(folder: Path) -> bool:
    """Whether a folder is that of a transformer, and not of a pipeline which has one."""
    config = folder / "config.json"
    if (folder / "transformer").exists():
        return False
    named = str(read_config(config).get("_class_name")) if config.is_file() else ""
    return has_weights(folder) or named.endswith("Transformer3DModel")


def read_config(file: Path) -> dict[str, object]:
    """Read a config.json; CheckpointError if it is none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): fetch it again.") from error
