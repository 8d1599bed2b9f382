"""Names of files for takes: from the prompt, numbered, never over an existing one."""

from __future__ import annotations

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Final

from animatic.errors import OutputError
from animatic.sinks.png import as_pattern, sequence

__all__ = ["default_targets", "named_targets", "slug"]

LONGEST_SLUG: Final = 48  # characters; leaves room for seed, take and variant in any file system


def slug(prompt: str) -> str:
    """The prompt as a file name: ASCII words joined by hyphens, cut at a word; never empty."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain.replace("'", ""))
    name = "-".join(words)[: LONGEST_SLUG + 1]
    if len(name) > LONGEST_SLUG:
        name = name.rpartition("-")[0] or name[:LONGEST_SLUG]
    return name or "shot"


def default_targets(prompt: str, seed: int, variants: int) -> list[Path]:
    """MP4s in the working folder: ``slug_seed``, else ``slug_seed_2``, the first that is free."""
    base = f"{slug(prompt)}_{seed}"
    for take in itertools.count(1):
        name = base if take == 1 else f"{base}_{take}"
        targets = _variants(Path(f"{name}.mp4"), variants)
        if not any(target.exists() for target in targets):
            return targets
    raise AssertionError  # count() never ends


def named_targets(output: Path, variants: int, *, force: bool) -> list[Path]:
    """The file that was asked for, or one per variant (``_v1`` …).

    Raises:
        OutputError: one of them exists and ``force`` is not set.
    """
    if output.suffix.lower() == ".png" and not output.is_dir():
        output = as_pattern(output)
    targets = _variants(output, variants)
    for target in targets:
        if not force and _taken(target):
            raise OutputError(
                f"{target} already exists; choose another name, or replace it with --force."
            )
    return targets


def _taken(target: Path) -> bool:
    if target.is_dir():
        return any(target.iterdir())
    return target.exists() or (target.suffix.lower() == ".png" and bool(sequence(target)))


def _variants(path: Path, variants: int) -> list[Path]:
    if variants == 1:
        return [path]
    # `name.%04d.png` becomes `name_v1.%04d.png`: the frame number stays last.
    stem, dot, rest = path.name.partition(".%") if ".%" in path.name else (path.stem, "", "")
    ending = f"{dot}{rest}" if dot else path.suffix
    return [path.with_name(f"{stem}_v{number}{ending}") for number in range(1, variants + 1)]
