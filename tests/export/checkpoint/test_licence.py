from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from animatic.bundle import LicenceNote
from animatic_export.checkpoint.licence import (
    KNOWN,
    NOT_FOUND,
    find_licence,
    licence_lines,
    write_licences,
)

if TYPE_CHECKING:
    from pathlib import Path


def card(front: str) -> str:
    return f"---\n{front}\n---\n# A model\nlicense: not this one\n"


def snapshot(folder: Path, repository: str) -> Path:
    """A repository's folder as the hub's cache has it."""
    path = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / "0" / "transformer"
    path.mkdir(parents=True)
    return path.parent


@pytest.mark.parametrize(
    ("front", "name", "spdx"),
    [
        ("license: apache-2.0", "apache-2.0", "Apache-2.0"),
        ('tags:\n- video\nlicense: "mit"  # as upstream', "mit", "MIT"),
        ("license: 'cc-by-nc-sa-4.0'\nlanguage: en", "cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
        ("license:\n- apache-2.0", "apache-2.0", "Apache-2.0"),
        ("license: [mit]", "mit", "MIT"),
        ("license: openrail", "openrail", "NOASSERTION"),
        ("license: other\nlicense_name: their-own", "their-own", "NOASSERTION"),
        ("license: other", "other", "NOASSERTION"),
        ("license:\nlanguage: en", "", "NOASSERTION"),
        ("base_license: mit", "", "NOASSERTION"),
    ],
)
def test_the_card_is_read(tmp_path: Path, front: str, name: str, spdx: str) -> None:
    for ending in ("\n", "\r\n"):
        (tmp_path / "README.md").write_bytes(card(front).replace("\n", ending).encode("utf-8-sig"))
        found = find_licence(tmp_path, tmp_path)
        assert (found.name, found.spdx) == (name, spdx)


@pytest.mark.parametrize("text", ["", "# no front\nlicense: mit\n", "---\nlicense: mit\n", "\xff"])
def test_a_card_without_front_matter_names_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_bytes(text.encode("latin-1"))
    assert licence_lines(find_licence(tmp_path, tmp_path)) == [f"{tmp_path.name}: {NOT_FOUND}"]


def test_a_card_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card("license: mit\x1b[2J"))
    assert find_licence(tmp_path, tmp_path).name == "mit[2J"


def test_nothing_beside_a_checkpoint_is_said(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    lines = licence_lines(find_licence(tmp_path / "w.safetensors", tmp_path / "w.safetensors"))
    assert lines == [f"w.safetensors: {NOT_FOUND}"]
    assert NOT_FOUND.startswith("no licence was found beside the checkpoint: ask its author")


@pytest.mark.parametrize("repository", KNOWN)
def test_what_we_have_seen_is_said_with_what_we_have_not(tmp_path: Path, repository: str) -> None:
    known = KNOWN[repository]
    lines = "\n".join(licence_lines(find_licence(repository, tmp_path)))
    assert known.licence in lines
    assert known.note in lines
    assert f"read {known.url}" in lines
    assert NOT_FOUND in lines


def test_the_table_says_no_more_than_was_seen() -> None:
    assert KNOWN["gdhe17/Self-Forcing"].spdx == ""
    assert KNOWN["gdhe17/Self-Forcing"].note == "card unchecked"
    assert KNOWN["lightx2v/Wan2.1-Distill-Models"].licence == ""
    assert {known.spdx for known in KNOWN.values()} == {"", "Apache-2.0", "MIT"}


@pytest.mark.parametrize(
    ("repository", "front"),
    [
        ("tianweiy/CausVid", ""),
        ("tianweiy/CausVid", "license: cc-by-nc-sa-4.0"),
        ("tianweiy/CausVid", "license: mit"),
        ("someone/else", "license: cc-by-nc-4.0"),
        ("someone/else", "license: other\nlicense_name: Their Non-Commercial Licence"),
    ],
)
def test_what_forbids_commercial_use_says_so_first_in_capitals(
    tmp_path: Path, repository: str, front: str
) -> None:
    (tmp_path / "README.md").write_text(card(front))
    first, *rest = licence_lines(find_licence(repository, tmp_path))
    assert first.startswith(f"{repository}: ITS LICENCE (")
    assert first.endswith("FORBIDS COMMERCIAL USE")
    assert rest


@pytest.mark.parametrize("repository", [name for name in KNOWN if name != "tianweiy/CausVid"])
def test_nothing_else_that_we_know_is_said_to_forbid_it(tmp_path: Path, repository: str) -> None:
    assert not find_licence(repository, tmp_path).non_commercial


def test_card_and_table_are_both_said_where_they_differ(tmp_path: Path) -> None:
    url = "https://huggingface.co/FastVideo/FastWan-QAD-1.3B"
    (tmp_path / "README.md").write_text(card("license: mit\nlicense_link: LICENSE.txt"))
    lines = licence_lines(find_licence("FastVideo/FastWan-QAD-1.3B", tmp_path))
    assert lines == [
        "FastVideo/FastWan-QAD-1.3B: its model card says mit, LICENSE.txt",
        f"FastVideo/FastWan-QAD-1.3B: seen as Apache-2.0: read {url}",
    ]
    (tmp_path / "README.md").write_text(card("license: apache-2.0"))
    lines = licence_lines(find_licence("FastVideo/FastWan-QAD-1.3B", tmp_path))
    assert lines == ["FastVideo/FastWan-QAD-1.3B: its model card says apache-2.0"]


def test_a_local_file_may_or_may_not_be_the_published_one(tmp_path: Path) -> None:
    found = find_licence(tmp_path / "w.pt", tmp_path / "w.pt", "FastVideo/FastWan-QAD-1.3B")
    assert licence_lines(found)[0].startswith("w.pt: if it is the one of https://huggingface.co/")
    assert (found.name, found.spdx) == ("", "NOASSERTION")
    bad = find_licence(tmp_path / "w.pt", tmp_path / "w.pt", "tianweiy/CausVid")
    assert "FORBIDS COMMERCIAL USE" in licence_lines(bad)[0]


def test_a_folder_of_the_hubs_cache_is_known_by_its_place(tmp_path: Path) -> None:
    root = snapshot(tmp_path, "madebyollin/taehv")
    (root / "LICENSE").write_text("MIT")
    (root / "transformer" / "w.pth").touch()
    (root.parent / "LICENSE").write_text("not of this")
    for path in (root, root / "transformer", root / "transformer" / "w.pth"):
        found = find_licence(path, path)
        assert (found.component, found.spdx) == ("madebyollin/taehv", "MIT")
        assert found.texts == (root / "LICENSE",)


def test_a_pipelines_card_counts_for_its_components(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card("license: apache-2.0"))
    (tmp_path / "vae").mkdir()
    assert find_licence(tmp_path / "vae", tmp_path / "vae").name == ""
    (tmp_path / "model_index.json").write_text("{}")
    assert find_licence(tmp_path / "vae", tmp_path / "vae").name == "apache-2.0"


def test_texts_are_copied_and_named(tmp_path: Path) -> None:
    source, bundle = tmp_path / "source", tmp_path / "bundle"
    source.mkdir()
    bundle.mkdir()
    for name in ("LICENSE.txt", "NOTICE", "Licence-Weights.md", "licensing.py", "model.json"):
        (source / name).write_text(name)
    (source / "README.md").write_text(card("license: apache-2.0"))
    found = find_licence("me/model", source)
    notes = write_licences([found, found], bundle)
    names = ["me-model.LICENSE.txt", "me-model.Licence-Weights.md", "me-model.NOTICE"]
    assert sorted(path.name for path in (bundle / "licences").iterdir()) == sorted(names)
    assert notes == tuple(
        LicenceNote(component="me/model", spdx="Apache-2.0", file=f"licences/{name}")
        for name in names
    )
    assert (bundle / "licences" / names[0]).read_text() == "LICENSE.txt"


def test_a_text_may_be_called_after_its_model(tmp_path: Path) -> None:
    for name in ("ltx-video-2b-v0.9.5.license.txt", "licensing.txt", "Model License.md"):
        (tmp_path / name).write_text(name)
    found = find_licence("me/model", tmp_path)
    assert [text.name for text in found.texts] == ["ltx-video-2b-v0.9.5.license.txt"]


def test_a_component_without_a_text_gets_what_is_known(tmp_path: Path) -> None:
    notes = write_licences([find_licence("tianweiy/CausVid", tmp_path)], tmp_path)
    (note,) = notes
    assert note.spdx == "NOASSERTION"
    text = (tmp_path / note.file).read_text()
    assert "FORBIDS COMMERCIAL USE" in text
    assert NOT_FOUND in text


def test_texts_of_two_components_of_one_name_are_both_kept(tmp_path: Path) -> None:
    found = []
    for text in ("one", "two"):
        folder = tmp_path / text / "transformer"
        folder.mkdir(parents=True)
        (folder / "LICENSE.txt").write_text(text)
        found.append(find_licence(folder, folder))
    notes = write_licences(found, tmp_path)
    assert [(tmp_path / note.file).read_text() for note in notes] == ["one", "two"]
