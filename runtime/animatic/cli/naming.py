"""Names of files for takes: from the prompt, numbered, never over an existing one."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError
from animatic.sinks.destination import check_place, kind_of
from animatic.sinks.numbering import Numbering, as_pattern
from animatic.sinks.pending import explained, flush_to_disk, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DefaultName", "check_kept", "default_names", "named_targets", "slug"]

LONGEST_SLUG: Final = 48  # characters; leaves room for seed, take and variant in any file system


def slug(prompt: str) -> str:
    """The prompt as a file name: ASCII words joined by hyphens, cut at a word; never empty."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain.replace("'", ""))
    name = "-".join(words)[: LONGEST_SLUG + 1]
    if len(name) > LONGEST_SLUG:
        name = name.rpartition("-")[0] or name[:LONGEST_SLUG]
    return name or "shot"


class DefaultName:
    """A clip that is named once it is complete, because two renders may want the same name.

    ``unfinished`` is where to write it, inside ``hidden()``; ``publish`` moves it to the first name
    of ``names`` that is free then, so that neither of two renders is lost.
    """

    def __init__(self, names: Iterator[Path]) -> None:
        self._names = names
        self.first = next(names)  # free when it was asked, and most likely still
        self.unfinished = self.first  # until `hidden`

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Make the hidden folder for ``unfinished``; remove it on leaving, whatever happens."""
        with contextlib.ExitStack() as stack:
            with explained(self.first):
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(
                        prefix=".animatic-", dir=self.first.parent, ignore_cleanup_errors=True
                    )
                )
            self.unfinished = Path(folder) / self.first.name
            yield

    def publish(self) -> Path:
        """Give the clip its name, and say which.

        Raises:
            OutputError: the folder became unwritable.
        """
        for target in itertools.chain([self.first], self._names):
            with explained(target), contextlib.suppress(FileExistsError):
                place(self.unfinished, target, overwrite=False)
                flush_to_disk(target.parent)
                return target
        raise AssertionError  # the names never end


def default_names(prompt: str, seed: int, variants: int) -> list[DefaultName]:
    """MP4s in the working folder: ``slug_seed``, else ``slug_seed_2``, the first that is free.

    Variants begin at the same number.
    """
    base = f"{slug(prompt)}_{seed}"

    def takes(variant: int, first: int) -> Iterator[Path]:
        for number in itertools.count(first):
            target = takes_of(number)[variant]
            if not os.path.lexists(target):
                yield target

    def takes_of(number: int) -> list[Path]:
        name = base if number == 1 else f"{base}_{number}"
        return _variants(Path(f"{name}.mp4"), variants)

    free = next(n for n in itertools.count(1) if not any(map(os.path.lexists, takes_of(n))))
    return [DefaultName(takes(variant, free)) for variant in range(variants)]


def named_targets(output: Path, variants: int, *, force: bool) -> list[Path]:
    """The file that was asked for, or one per variant (``_v1`` …).

    Raises:
        OutputError: one of them exists and ``force`` is not set, or cannot be written anyway.
    """
    if kind_of(output) == "pattern":
        output = as_pattern(output)
    targets = _variants(output, variants)
    for target in targets:
        check_place(target)  # before --force is named, which would not help there
        if not force and _taken(target):
            raise OutputError(
                f"{target} already exists; choose another name, or replace it with --force."
            )
    return targets


def check_kept(targets: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse to write over what a clip is made from, or held against, whatever the names.

    Raises:
        OutputError: one of the targets would replace one of the files.
    """
    kept = {_identity(file): file for file in files if file.exists()}
    for target in targets:
        with explained(target):
            replaced = {_identity(file) for file in _replaced(target) if file.exists()}
        for identity, file in kept.items():
            if identity in replaced:
                raise OutputError(
                    f"{file} is read for this clip, and {target} would replace it; choose another "
                    "name."
                )


def _replaced(target: Path) -> list[Path]:
    """The files that lie where a clip is to be written."""
    if target.is_dir():
        return list(target.iterdir())
    if kind_of(target) == "pattern":
        return [target, *Numbering.asked(target).occupied()]
    return [target]


def _identity(file: Path) -> tuple[int, int]:
    """What a file has in common with its other names."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _taken(target: Path) -> bool:
    with explained(target):
        if target.is_dir():
            return any(not entry.name.startswith(".") for entry in target.iterdir())
        return target.exists() or (
            target.suffix.lower() == ".png" and bool(Numbering.asked(target).occupied())
        )


def _variants(path: Path, variants: int) -> list[Path]:
    if variants == 1:
        return [path]
    # `name.%04d.png` becomes `name_v1.%04d.png`: the frame number stays last.
    stem, dot, rest = path.name.partition(".%") if ".%" in path.name else (path.stem, "", "")
    ending = f"{dot}{rest}" if dot else path.suffix
    return [path.with_name(f"{stem}_v{number}{ending}") for number in range(1, variants + 1)]
