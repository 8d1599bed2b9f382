"""What is known of a checkpoint's licence: said before the first export, kept in the bundle.

Three things speak: our table of what we have seen, the model card beside the weights (README.md),
and the licence texts there. None of them is legal advice; where one forbids commercial use, that
is said in capitals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from animatic.bundle import LicenceNote
from animatic_export.checkpoint.source import hub_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

UNKNOWN: Final = "NOASSERTION"
"""SPDX's word for a licence that nobody has stated."""
NOT_FOUND: Final = "no licence was found beside the checkpoint: ask its author before you use it"
_HUB: Final = "https://huggingface.co/"

_SPDX: Final = {
    identifier.lower(): identifier
    for identifier in (
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-NC-ND-4.0",
    )
}
"""Of those that model cards name, in lower case, those that SPDX lists under the same name."""
_NON_COMMERCIAL: Final = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)
_TEXTS: Final = re.compile(
    r"(?:LICEN[CS]E|COPYING|NOTICE)(?:[.-].*)?|.*licen[cs]e.*\.txt", re.IGNORECASE
)
"""Lightricks' are called after each model: ltx-video-2b-v0.9.5.license.txt."""
_LARGEST_TEXT: Final = 1 << 20
"""Bytes of a card or licence text; what is larger is something else."""


@dataclass(frozen=True)
class KnownLicence:
    """What we have seen of a published checkpoint's licence, and what we have not."""

    licence: str
    """As seen; empty where nothing was."""
    spdx: str
    """SPDX identifier of the weights' licence, empty where we cannot say."""
    note: str
    url: str


def _on_hub(repository: str, licence: str, spdx: str, note: str) -> tuple[str, KnownLicence]:
    return repository, KnownLicence(licence, spdx, note, _HUB + repository)


_UNCHECKED: Final = "card unchecked"
KNOWN: Final = dict(
    (
        _on_hub("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Apache-2.0", "Apache-2.0", "check the card"),
        _on_hub("FastVideo/FastWan2.1-T2V-1.3B-Diffusers", "", "", "check the card"),
        _on_hub("FastVideo/FastWan-QAD-1.3B", "Apache-2.0", "Apache-2.0", ""),
        _on_hub("FastVideo/FastWan-QAD-FP8-1.3B", "Apache-2.0", "Apache-2.0", ""),
        _on_hub("gdhe17/Self-Forcing", "code Apache-2.0", "", _UNCHECKED),
        _on_hub("worstcoder/rcm-Wan", "Apache-2.0", "Apache-2.0", _UNCHECKED),
        _on_hub("lightx2v/Wan2.1-Distill-Models", "", "", _UNCHECKED),
        _on_hub("Lightricks/LTX-Video", "OpenRail-M", "", "from 0.9.5 on; check the card"),
        _on_hub("tianweiy/CausVid", "CC BY-NC-SA", "", "never a default here"),
        (
            "madebyollin/taehv",
            KnownLicence("MIT", "MIT", "", "https://github.com/madebyollin/taehv"),
        ),
    )
)
"""By repository, as far as it was seen when the recipes were written."""


@dataclass(frozen=True)
class FoundLicence:
    """All that is known of one component's licence.

    component: the hub's id, or the name of the file or folder.
    known: what our table says; is_assumed: of the checkpoint that the recipe is for, which a file
        without an id may or may not be.
    card: what the model card beside the weights names, empty for none; link: where it says that
        the text is.
    texts: the licence texts beside the weights.
    """

    component: str
    known: KnownLicence | None
    is_assumed: bool
    card: str
    link: str
    texts: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The licence's name: the card's, which its author wrote for these files, or the seen."""
        return self.card or self._seen

    @property
    def spdx(self) -> str:
        """The SPDX identifier, or `UNKNOWN`."""
        if self.card:
            return _SPDX.get(self.card.lower(), UNKNOWN)
        return (self.known.spdx if self._seen and self.known else "") or UNKNOWN

    @property
    def non_commercial(self) -> str:
        """The licence that forbids commercial use, by name; empty is no permission."""
        names = (self.card, self.known.licence if self.known else "")
        return next((name for name in names if _NON_COMMERCIAL.search(name)), "")

    @property
    def _seen(self) -> str:
        return self.known.licence if self.known and not self.is_assumed else ""


def find_licence(reference: str | Path, path: Path, published: str = "") -> FoundLicence:
    """Look for the licence of a checkpoint: as it was asked for, and where it now lies.

    published: the hub's id of the checkpoint that the recipe is for, asked of the table where
        neither the reference nor the path is of the hub.
    """
    hub = hub_reference(reference)
    snapshot = _snapshot(path)
    repository = hub.repository if hub else _repository(snapshot) if snapshot else ""
    card, link = "", ""
    texts: dict[str, Path] = {}
    for folder in _folders(path, snapshot):
        for file in sorted(folder.iterdir()):
            if _TEXTS.fullmatch(file.name) and _is_text(file):
                texts.setdefault(file.name, file)
        if not card and _is_text(folder / "README.md"):
            card, link = _read_card((folder / "README.md").read_text("utf-8-sig", "replace"))
    return FoundLicence(
        component=repository or path.name,
        known=KNOWN.get(repository or published),
        is_assumed=not repository,
        card=card,
        link=link,
        texts=tuple(texts.values()),
    )


def licence_lines(found: FoundLicence) -> list[str]:
    """Return the lines to print before a first export."""
    lines: list[str] = []
    if found.non_commercial:
        lines.append(f"ITS LICENCE ({found.non_commercial}) FORBIDS COMMERCIAL USE")
    if found.card:
        lines.append(f"its model card says {found.card}" + (found.link and f", {found.link}"))
    known = found.known
    if known and not (found.card and _same(known.licence, found.card)):
        what = f"seen as {known.licence}" if known.licence else "no licence was seen"
        note = f" ({known.note})" if known.note else ""
        who = f"if it is the one of {known.url}, " if found.is_assumed else ""
        lines.append(f"{who}{what}{note}: read {known.url}")
    if found.texts:
        names = ", ".join(text.name for text in found.texts)
        lines.append(f"its licence text goes into the bundle ({names})")
    if not (found.card or found.texts):
        lines.append(NOT_FOUND)
    return [f"{found.component}: {line}" for line in lines]


def write_licences(found: Sequence[FoundLicence], bundle: Path) -> tuple[LicenceNote, ...]:
    """Copy the texts into the bundle's `licences/` and return a note for each.

    A component without a text gets a file that says what is known, so that a bundle which is
    handed on says it too.
    """
    folder = bundle / "licences"
    folder.mkdir(exist_ok=True)
    notes: dict[LicenceNote, None] = {}  # a set that keeps its order
    for each in found:
        stem = re.sub(r"[^\w.-]+", "-", each.component)
        texts = [(f"{stem}.{text.name}", text.read_bytes()) for text in each.texts]
        if not texts:
            texts = [(f"{stem}.txt", ("\n".join(licence_lines(each)) + "\n").encode())]
        for name, text in texts:
            file = _free(folder / name, text)
            file.write_bytes(text)
            notes[
                LicenceNote(component=each.component, spdx=each.spdx, file=f"licences/{file.name}")
            ] = None
    return tuple(notes)


def _free(file: Path, text: bytes) -> Path:
    """Return the file, or one beside it with a number, where another text has its name."""
    number, free = 2, file
    while free.exists() and free.read_bytes() != text:
        number, free = number + 1, file.with_name(f"{file.stem}-{number}{file.suffix}")
    return free


def _read_card(text: str) -> tuple[str, str]:
    """Return the licence that a model card's YAML front matter names, and its link."""
    match = re.match(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    fields = dict(_scalars(match[1])) if match else {}
    licence = fields.get("license", "")
    if licence.lower() == "other":
        licence = fields.get("license_name", licence)
    return licence, fields.get("license_link", "")


def _scalars(front: str) -> Iterator[tuple[str, str]]:
    """Give the fields of a front matter that are a word or a list of one, without quotes."""
    pattern = r"^(\w+):[ \t]*(?:\r?\n[ \t]*-[ \t]+|\[?)([^\s#\[][^\r\n#]*)"
    for field, value in re.findall(pattern, front, re.MULTILINE):
        printable = "".join(filter(str.isprintable, value))
        yield field, printable.strip().rstrip("]").strip().strip("'\"")


def _folders(path: Path, snapshot: Path | None) -> Iterator[Path]:
    """Give the checkpoint's folder, and those above it up to the repository's or pipeline's."""
    folder = path if path.is_dir() else path.parent
    yield folder
    if snapshot is not None:
        above = list(folder.parents)
        if snapshot in above:
            yield from above[: above.index(snapshot) + 1]
    elif (folder.parent / "model_index.json").is_file():
        yield folder.parent


def _snapshot(path: Path) -> Path | None:
    """Return the folder models--owner--name/snapshots/COMMIT of the hub's cache that has a path."""
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder
    return None


def _repository(snapshot: Path) -> str:
    return snapshot.parent.parent.name.removeprefix("models--").replace("--", "/", 1)


def _same(seen: str, card: str) -> bool:
    """Whether two ways of writing a licence are of one: "CC BY-NC-SA" and "cc-by-nc-sa-4.0"."""
    words = [re.sub(r"[\s_-]", "", name).lower() for name in (seen, card)]
    return bool(words[0]) and words[0] in words[1]


def _is_text(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= _LARGEST_TEXT
