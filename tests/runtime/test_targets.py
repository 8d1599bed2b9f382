"""The table of targets, its checks, and docs/targets.md, which is made from it.

`python -m tests.runtime.test_targets` writes that page anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from animatic.errors import TargetError
from animatic.targets import (
    BackendSupport,
    Target,
    decode_targets,
    find_target,
    load_targets,
    targets_like,
    version_numbers,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "targets.md"
BEGIN, END = "<!-- made from targets.toml -->\n", "<!-- end -->\n"

SOUND: dict[str, Any] = {
    "name": "card",
    "title": "A card",
    "compute_capability": [8, 9],
    "memory_gib": 8,
    "precisions": ["fp16", "int8"],
    "default_precision": "fp16",
    "devices": ["Card \\d+"],
    "note": "None.",
    "backends": [{"name": "tensorrt", "minimum": "10.3", "below": "11"}],
}


def toml(value: Any) -> str:
    """A value as TOML writes it on one line; strings and numbers are as in JSON."""
    match value:
        case dict():
            return f"{{{', '.join(f'{key} = {toml(part)}' for key, part in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return json.dumps(value)


def decoded(*changes: dict[str, Any]) -> Any:
    return decode_targets(f"targets = {toml([{**SOUND, **c} for c in changes])}".encode())


def page() -> str:
    """What docs/targets.md holds between its two marks."""
    rows = [
        "| target | cards | SM | GiB | precisions | backends, preferred first |",
        "|---" * 6 + "|",
    ]
    notes = []
    for target in load_targets().values():
        capability = target.compute_capability
        precisions = (
            f"**{precision}**" if precision == target.default_precision else precision
            for precision in target.precisions
        )
        cells = (
            f"`{target.name}`",
            target.title,
            "–" if capability is None else ".".join(map(str, capability)),
            f"{target.memory_gib:g}",
            ", ".join(precisions),
            ", ".join(f"`{backend.words}`" for backend in target.backends),
        )
        rows.append(f"| {' | '.join(cells)} |")
        notes.append(f"- `{target.name}`: {target.note}")
    return "\n".join([*rows, "", *notes, ""])


def test_the_page_is_the_table() -> None:
    _, between, rest = PAGE.read_text("utf-8").partition(BEGIN)
    assert between, f"{PAGE} lost its mark {BEGIN!r}"
    assert rest.partition(END)[0] == page()


def test_every_family_of_the_brief_is_there() -> None:
    assert list(load_targets()) == [
        "rtx-20",
        "rtx-30",
        "rtx-40",
        "rtx-50",
        "rtx-a",
        "rtx-ada",
        "rtx-pro",
        "l4",
        "l40s",
        "a100",
        "h100",
        "dgx-spark",
        "jetson-agx-orin",
        "jetson-orin-nx-nano",
        "jetson-thor",
        "cpu",
    ]


@pytest.mark.parametrize("target", load_targets().values(), ids=lambda target: target.name)
def test_a_target_offers_what_its_silicon_computes(target: Target) -> None:
    capability = target.compute_capability
    if capability is None:
        assert target.precisions == ("fp32",)
        return
    assert {"fp16", "int8"} <= set(target.precisions)
    assert ("bf16" in target.precisions) == (capability >= (8, 0))
    assert ("fp8" in target.precisions) == (capability >= (8, 9))
    # What the builder of TensorRT-RTX 1.7 has a name for.
    rtx = {(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)}
    assert target.supports("tensorrt_rtx", "1.7.1.116") == (capability in rtx)
    assert re.match(f"{target.default_precision} by default: |As rtx-", target.note)
    assert target.backends[-1].name == "onnxruntime"


@pytest.mark.parametrize(
    ("name", "backend", "version", "served"),
    [
        ("rtx-40", "tensorrt", "10.3.0", True),
        ("rtx-40", "tensorrt", "10.2.9", False),
        ("rtx-40", "tensorrt", "11.4.1.2", True),
        ("rtx-40", "tensorrt", "12.0.0", False),
        ("rtx-50", "tensorrt", "10.7.0", False),
        ("dgx-spark", "tensorrt_rtx", "1.4", False),
        ("h100", "tensorrt_rtx", "1.7.1.116", False),
        ("jetson-agx-orin", "tensorrt", "10.3.0", True),
        ("jetson-agx-orin", "tensorrt", "11.3.0", False),
        ("jetson-agx-orin", "tensorrt", "11.4.1", True),
        ("jetson-thor", "tensorrt", "10.12", False),
        ("cpu", "onnxruntime", "1.32.0", True),
        ("cpu", "onnxruntime-cuda", "1.32.0", False),
    ],
)
def test_versions_that_serve(name: str, backend: str, version: str, *, served: bool) -> None:
    assert find_target(name).supports(backend, version) is served


def test_versions_compare_as_numbers() -> None:
    assert version_numbers("10.13.3.9") > version_numbers("10.3")
    assert version_numbers("11.0.0") == version_numbers("11")
    assert version_numbers("1.20.0rc1") == version_numbers("1.20")
    with pytest.raises(TargetError, match="is not a version"):
        version_numbers("new")


@pytest.mark.parametrize(
    ("minimum", "below", "words"),
    [("", "", "tensorrt"), ("10.3", "", "tensorrt>=10.3"), ("10.3", "12", "tensorrt>=10.3,<12")],
)
def test_a_range_in_words(minimum: str, below: str, words: str) -> None:
    assert BackendSupport(name="tensorrt", minimum=minimum, below=below).words == words


def test_an_unknown_name_gets_its_neighbours() -> None:
    with pytest.raises(TargetError, match=r"did you mean rtx-40 or .*`animatic targets` lists"):
        find_target("RTX40")
    with pytest.raises(TargetError, match="There is no target 'zebra'; `animatic targets` lists"):
        find_target("zebra")


def test_targets_of_one_compute_capability() -> None:
    assert targets_like((8, 6)) == ("rtx-30", "rtx-a")
    assert targets_like((6, 1)) == ()


def test_the_sound_one_is_taken() -> None:
    assert decoded({})["card"].compute_capability == (8, 9)
    apart = [{"name": "tensorrt", "below": "11"}, {"name": "tensorrt", "minimum": "11"}]
    assert decoded({"backends": apart})["card"].supports("tensorrt", "11.0")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"watts": 300}, "unknown field `watts`"),
        ({"name": "A card"}, "is no name for a folder"),
        ({"default_precision": "bf16"}, "default precision bf16, which it does not offer"),
        ({"precisions": ["fp16", "fp16"]}, "names a precision twice"),
        ({"precisions": ["fp16", "int3"]}, "Invalid enum value 'int3'"),
        ({"compute_capability": [8, 6], "precisions": ["fp16", "fp8"]}, "fp8, which needs"),
        ({"compute_capability": [7, 5], "precisions": ["fp16", "bf16"]}, "bf16, which needs"),
        ({"memory_gib": 0}, "has no memory"),
        ({"devices": ["Card ("]}, "has the regular expression 'Card ('"),
        ({"backends": []}, "has no backend"),
        ({"backends": [{"name": "tvm"}]}, "Invalid enum value 'tvm'"),
        ({"backends": [{"name": "tensorrt", "minimum": "ten"}]}, "version 'ten', which is none"),
        (
            {"backends": [{"name": "tensorrt", "minimum": "12", "below": "11"}]},
            "from 12, but only below 11",
        ),
        (
            {
                "backends": [
                    {"name": "tensorrt", "minimum": "10", "below": "11.5"},
                    {"name": "tensorrt", "minimum": "11"},
                ]
            },
            "ranges of tensorrt that overlap",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TargetError, match=re.escape(sentence)):
        decoded(change)


def test_a_processor_has_no_gpu_backend() -> None:
    without = {key: value for key, value in SOUND.items() if key != "compute_capability"}
    with pytest.raises(TargetError, match="no compute capability and a backend that needs one"):
        decode_targets(f"targets = {toml([without])}".encode())


def test_a_name_comes_once() -> None:
    with pytest.raises(TargetError, match="a target twice"):
        decoded({}, {"title": "Another"})


@pytest.mark.parametrize("data", [b"targets = 3", b"[[targets]", b"\xff\xfe"])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(TargetError, match=r"malformed .*reinstall animatic"):
        decode_targets(data)


if __name__ == "__main__":
    before, mark, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + mark + page() + END + rest.partition(END)[2], "utf-8")
