"""The tensors of a checkpoint by name, each loaded when it is asked for and not before.

A checkpoint of 14 billion weights is opened in the memory of its headers. `open_tensors` takes
whatever checkpoints are published as; everything after it sees a `Tensors`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatic_export.checkpoint.digest import check_sha256, combine, hash_files
from animatic_export.checkpoint.formats import Contents, Entry, read_file
from animatic_export.checkpoint.layout import find_weights, is_index, read_index
from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Tensors(Mapping[str, Tensor]):
    """Tensors by name: the shape and type of each is known, its values come when it is taken.

    A tensor that was taken may be the file itself, mapped into memory: it is not to be written to.
    """

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without loading it; KeyError if there is none."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor without loading it; KeyError if there is none."""

    def __contains__(self, name: object) -> bool:
        """Whether there is such a tensor; Mapping itself would load it to see."""
        try:
            return isinstance(name, str) and self.shape(name) is not None
        except KeyError:
            return False


class Checkpoint(Tensors):
    """The tensors of files on the disk.

    path: what was opened. files: all that were, a folder's index first.
    metadata: the free text in the header of a safetensors file; of the first of its shards.
    """

    def __init__(
        self,
        path: Path,
        files: tuple[Path, ...],
        entries: Mapping[str, Entry],
        metadata: Mapping[str, str],
    ) -> None:
        self.path = path
        self.files = files
        self.metadata = metadata
        self._entries = entries

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 in hex of every file, by its name; every byte is read, once."""
        return hash_files(self.files, self.files[0].parent)

    @cached_property
    def sha256(self) -> str:
        """The file's SHA-256 in hex; of shards or a folder, that over its files' (`digest`)."""
        if self.files == (self.path,):
            return next(iter(self.hashes.values()))
        return combine(self.hashes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without loading it."""
        return self._entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor without loading it."""
        return self._entries[name].dtype

    def __getitem__(self, name: str) -> Tensor:
        """Load one tensor."""
        return self._entries[name].load()

    def __iter__(self) -> Iterator[str]:
        """Go over the names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._entries)


def open_tensors(path: Path, sha256: str | None = None) -> Checkpoint:
    """Open a checkpoint: a file, an index of shards, or the folder of a component.

    Of a torch file that nests several parts it is the first of `formats.KEYS`.
    sha256: what `Checkpoint.sha256` must be, "sha256:HEX" or HEX.
    """
    weights = find_weights(path)
    if is_index(weights):
        files, contents = _read_shards(weights)
    else:
        files, contents = (weights,), read_file(weights)
    checkpoint = Checkpoint(path, files, contents.entries, contents.metadata)
    if sha256 is not None:
        check_sha256(str(path), checkpoint.sha256, sha256)
    return checkpoint


def _read_shards(index: Path) -> tuple[tuple[Path, ...], Contents]:
    places = read_index(index)
    shards = {shard: read_file(shard) for shard in sorted(set(places.values()))}
    if not shards:
        raise CheckpointError(f"{index} names no tensors: fetch it again.")
    entries: dict[str, Entry] = {}
    for name, shard in places.items():
        entry = shards[shard].entries.get(name)
        if entry is None:
            raise CheckpointError(
                f"{index} says that {name} is in {shard.name}, where it is not: fetch both again, "
                "from the same revision."
            )
        entries[name] = entry
    first = next(iter(shards.values()))
    return (index, *shards), Contents(entries, first.metadata)


class Outline(Tensors):
    """The same tensors without their values, as torch's "meta" tensors.

    What a loader makes of them costs no memory, and refuses what it would refuse of the real ones.
    """

    def __init__(self, whole: Tensors) -> None:
        self._whole = whole

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._whole.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor."""
        return self._whole.dtype(name)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor without values, but for a single number, which loaders look at."""
        if self.shape(name) == ():
            return self._whole[name]
        return torch.empty(self.shape(name), dtype=self.dtype(name), device="meta")

    def __iter__(self) -> Iterator[str]:
        """Go over the names."""
        return iter(self._whole)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._whole)
