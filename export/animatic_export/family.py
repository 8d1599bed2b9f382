"""One published model on its way to a bundle: what all families have in common.

A recipe says what its model is (`Description`) and how each graph is planned; here the files are
hashed, the graphs exported one after the other, and bundle.json is written last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from animatic.bundle import SCHEMA_VERSION, Bundle, FileRef, TextSpec
from animatic.store import sha256_file, write_bundle
from animatic_export.checkpoint.licence import licence_lines, write_licences
from animatic_export.external_data import refuse_if_short
from animatic_export.parts import export_parts
from animatic_export.provenance import provenance
from animatic_export.t5.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import (
        Adapter,
        Conditioning,
        Geometry,
        LatentStats,
        SamplerSpec,
        Tier,
    )
    from animatic_export.parts import Part
    from animatic_export.published import PublishedModel
    from animatic_export.recipe import Request

__all__ = ["Description", "FamilyExport"]


@dataclass(frozen=True)
class Description:
    """What bundle.json says of a model, beside its files.

    family: the recipe's name. prompt_tokens: how many the text encoder reads. states_length: see
    `animatic.bundle.TextSpec`. clean_prompts: see `animatic_export.t5.tokenizer.read_tokenizer`.
    method: raised when the same checkpoint gives another bundle.
    architectures: the resolved shape of each network, in JSON.
    """

    family: str
    text: str
    method: int
    geometry: Geometry
    latents: LatentStats
    conditioning: Conditioning
    sampler: SamplerSpec
    tiers: tuple[Tier, ...]
    prompt_tokens: int
    states_length: int
    clean_prompts: bool
    architectures: tuple[str, ...]
    adapters: tuple[Adapter, ...] = ()


class FamilyExport:
    """An export that can begin; see `animatic_export.recipe.Export`."""

    def __init__(
        self,
        published: PublishedModel,
        request: Request,
        description: Description,
        parts: tuple[Part[Any], ...],
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Take what `prepare` found out, and refuse what does not fit before anything is loaded.

        parts: the graphs to come, the one first that is most likely to be refused.
        warnings: lines to be said before the export.
        """
        self._published = published
        self._request = request
        self._description = description
        self._parts = parts
        self._warnings = warnings
        self._tokenizer = read_tokenizer(published.tokenizer, clean=description.clean_prompts)
        self._size = sum(part.check() for part in parts)

    @property
    def notices(self) -> tuple[str, ...]:
        """The licences of what is exported, and what else is to be known of it."""
        licences = (line for found in self._published.licences for line in licence_lines(found))
        return (*licences, *self._warnings)

    def is_current(self, bundle: Bundle) -> bool:
        """Whether a bundle was made from these very files and settings."""
        return bundle.provenance.source_sha256 == self.digest

    def write(self, folder: Path, say: Callable[[str], None]) -> None:
        """Fill an empty folder with the bundle."""
        about = self._description
        refuse_if_short(folder, self._size, "The bundle")
        graphs = export_parts(self._parts, folder, say)
        tokenizer = folder / "tokenizer.json"
        tokenizer.write_bytes(self._tokenizer)
        first = self._published.licences[0]
        bundle = Bundle(
            schema_version=SCHEMA_VERSION,
            name=folder_name(self._request.checkpoint or about.family),
            family=about.family,
            version="1",
            licence=first.name or "unknown",
            description=about.text,
            provenance=provenance(
                source=first.component,
                digest=self.digest,
                licence=first.name or "unknown",
                command=self._request.command,
                adapters=about.adapters,
            ),
            geometry=about.geometry,
            latents=about.latents,
            conditioning=about.conditioning,
            text=TextSpec(
                tokenizer=FileRef(file=tokenizer.name, sha256=sha256_file(tokenizer)),
                max_tokens=about.prompt_tokens,
                pad_to_max=False,
                states_length=about.states_length,
                costly=True,
            ),
            sampler=about.sampler,
            graphs=graphs,
            licences=write_licences(self._published.licences, folder),
            tiers=about.tiers,
        )
        write_bundle(folder, bundle)

    @cached_property
    def digest(self) -> str:
        """Hash all that decides the bundle; reads every byte of the checkpoint, once."""
        settings = msgspec.json.encode(msgspec.to_builtins(self._description), order="sorted")
        return self._published.digest(settings.decode())


def folder_name(reference: str) -> str:
    """A short name for a bundle: the last part of a path or hub id, without its ending."""
    last = reference.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last.rpartition(":")[2].removesuffix(".safetensors") or reference
