"""What is decided before a compiler is asked: profiles, graphs, backends, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from animatic.bundle import AxisRange, Bundle, GraphSpec, Role, Size, TensorSpec
from animatic.errors import TargetError
from animatic.store import open_bundle
from animatic.targets import Target, find_target
from animatic_engines.choices import Backend, Probe, choose_backend, choose_graphs
from animatic_engines.errors import BuildError, GraphError, NoRoomError
from animatic_engines.limits import Room, measure, needed_room, refuse_if_short, workspace_bytes
from animatic_engines.memory import available_memory, peak_rss
from animatic_engines.order import Order
from animatic_engines.presence import Presence
from animatic_engines.profiles import axis_ranges, shapes_of
from tests.runtime.windowed_model import windowed_bundle

if TYPE_CHECKING:
    from pathlib import Path

replace = msgspec.structs.replace
GIB = 1 << 30


@pytest.fixture
def model(tiny_bundle: Path) -> Bundle:
    """Sizes 64x48 and 32x16, 8 pixels a latent, blocks of 2,001 latent frames, 16 tokens."""
    return open_bundle(tiny_bundle).bundle


def ranges(bundle: Bundle, *axes: int | str) -> list[tuple[str, int, int, int]]:
    tensor = TensorSpec(name="x", dtype="float32", shape=axes)
    found = axis_ranges(bundle, replace(bundle.graphs[0], inputs=(tensor,)))
    return [(each.axis, each.minimum, each.optimum, each.maximum) for each in found]


def test_every_named_axis_has_a_range_from_the_bundle(model: Bundle) -> None:
    axes = ("batch", 4, "frames", "pictures", "rows", "columns", "height", "width")
    assert ranges(model, *axes) == [
        ("batch", 1, 1, 1),
        ("columns", 4, 8, 8),
        ("frames", 2, 3, 2001),  # clips of 5, 9 and 8,001 frames, 9 of them the usual
        ("height", 16, 48, 48),
        ("pictures", 8, 12, 8004),
        ("rows", 2, 6, 6),
        ("width", 32, 64, 64),
    ]


def test_a_clip_of_many_blocks_is_denoised_in_blocks(model: Bundle) -> None:
    geometry = replace(model.geometry, frame_counts=(81, 21, 9), block_latent_frames=3)
    assert ranges(replace(model, geometry=geometry), "frames", "pictures") == [
        ("frames", 3, 3, 3),
        ("pictures", 12, 12, 12),
    ]


@pytest.mark.parametrize(
    ("most", "padded", "expected"),
    [
        (40, False, (1, 16, 40)),
        (12, False, (1, 12, 12)),
        (40, True, (40, 40, 40)),
    ],
)
def test_the_tokens_of_a_prompt(
    model: Bundle,
    most: int,
    padded: bool,  # noqa: FBT001  # pytest gives it by name
    expected: tuple[int, int, int],
) -> None:
    text = replace(model.text, max_tokens=most, pad_to_max=padded)
    assert ranges(replace(model, text=text), "tokens") == [("tokens", *expected)]


@pytest.mark.parametrize(("padded", "expected"), [(False, (1, 16, 40)), (True, (40, 40, 40))])
def test_states_that_are_padded_further(
    model: Bundle,
    padded: bool,  # noqa: FBT001  # pytest gives it by name
    expected: tuple[int, int, int],
) -> None:
    text = replace(model.text, max_tokens=40, pad_to_max=padded, states_length=64)
    bundle = replace(model, text=text)
    assert ranges(bundle, "tokens") == [("tokens", *expected)]  # of the text encoder
    tensor = TensorSpec(name="text_states", dtype="float32", shape=("batch", "tokens", 8))
    (_, tokens) = axis_ranges(bundle, replace(bundle.graph("denoiser"), inputs=(tensor,)))
    assert (tokens.minimum, tokens.optimum, tokens.maximum) == (64, 64, 64)


def test_the_engine_is_tuned_for_the_default_size(model: Bundle) -> None:
    sizes = (Size(width=32, height=16), Size(width=64, height=48), Size(width=16, height=24))
    geometry = replace(model.geometry, sizes=sizes)
    assert ranges(replace(model, geometry=geometry), "rows", "columns") == [
        ("columns", 2, 4, 8),
        ("rows", 2, 2, 6),
    ]


def test_a_window_and_what_its_encoder_reads_have_ranges_of_their_own() -> None:
    """Blocks of 4 with 2 before them are usual; a first block may be 2, and 4 stills may come."""
    bundle = windowed_bundle()

    def ends(role: Role, axis: str) -> tuple[int, int, int]:
        (found,) = [a for a in axis_ranges(bundle, bundle.graph(role)) if a.axis == axis]
        return found.minimum, found.optimum, found.maximum

    assert ends("denoiser", "frames") == (2, 6, 10)
    assert ends("vae_encoder", "pictures") == (4, 12, 12)


def test_a_graph_without_dynamic_axes_has_no_profile(model: Bundle) -> None:
    assert ranges(model, 1, 4) == []


def test_an_axis_nobody_knows_is_refused(model: Bundle) -> None:
    with pytest.raises(GraphError, match=r"'wavelets', whose sizes the bundle does not say; exp"):
        ranges(model, "batch", "wavelets")


def test_shapes_put_sizes_in_the_place_of_names() -> None:
    tensor = TensorSpec(name="x", dtype="float32", shape=("batch", 7, "tokens"))
    profile = (
        AxisRange(axis="batch", minimum=1, optimum=1, maximum=1),
        AxisRange(axis="tokens", minimum=1, optimum=16, maximum=40),
    )
    assert shapes_of(tensor, profile) == ((1, 7, 1), (1, 7, 16), (1, 7, 40))


def graphs(bundle: Bundle, *kinds: str) -> Bundle:
    """The bundle with typed graphs: "denoiser.fp16" …"""
    added: list[GraphSpec] = []
    for kind in kinds:
        role, _, precision = kind.partition(".")
        reference = next(graph for graph in bundle.graphs if graph.role == role)
        added.append(replace(reference, precision=precision))
    return replace(bundle, graphs=(*bundle.graphs, *added))


HALF = ("text_encoder.fp16", "denoiser.fp16", "vae_decoder.fp16")


def chosen(bundle: Bundle, precision: str, target: str = "rtx-40") -> list[str]:
    return [
        f"{g.role}.{g.precision}" for g in choose_graphs(bundle, find_target(target), precision)
    ]


def test_a_role_without_the_precision_takes_half(model: Bundle) -> None:
    bundle = graphs(model, *HALF, "denoiser.int8", "vae_decoder.int8")
    assert chosen(bundle, "int8") == ["text_encoder.fp16", "denoiser.int8", "vae_decoder.int8"]
    assert chosen(bundle, "fp16") == list(HALF)


def test_a_text_encoder_that_overflows_in_fp16_stays_in_bf16(model: Bundle) -> None:
    bundle = graphs(model, "text_encoder.bf16", *HALF[1:])
    assert chosen(bundle, "fp16") == ["text_encoder.bf16", *HALF[1:]]
    with pytest.raises(BuildError, match=r"no text_encoder graph for engines; make"):
        chosen(bundle, "fp16", "rtx-20")  # which has no bf16


def test_a_costly_text_encoder_is_left_out_unless_asked(model: Bundle) -> None:
    bundle = graphs(model, "text_encoder.bf16", *HALF[1:], "denoiser.int8")
    bundle = replace(bundle, text=replace(bundle.text, costly=True))
    assert chosen(bundle, "int8") == ["denoiser.int8", "vae_decoder.fp16"]
    asked = choose_graphs(bundle, find_target("rtx-40"), "int8", text=True)
    assert [f"{g.role}.{g.precision}" for g in asked] == [
        *("text_encoder.bf16", "denoiser.int8", "vae_decoder.fp16")
    ]
    with pytest.raises(BuildError, match="has no bf16 graph"):  # of those that are built
        chosen(bundle, "bf16")


def test_a_precision_that_no_graph_has_is_not_replaced_in_silence(model: Bundle) -> None:
    words = r"tiny has no int8 graph; make .*: animatic export tiny --precision int8 --out"
    with pytest.raises(BuildError, match=words):
        chosen(graphs(model, *HALF), "int8")
    with pytest.raises(BuildError, match=r"no text_encoder graph for engines"):
        chosen(model, "fp16")


def test_a_precision_that_the_target_has_not_is_refused(model: Bundle) -> None:
    words = r"^rtx-30 does not compute in fp8; choose --precision fp16 or bf16 or int8\.$"
    with pytest.raises(TargetError, match=words):
        chosen(graphs(model, *HALF), "fp8", "rtx-30")


def test_a_processor_needs_no_engine(model: Bundle) -> None:
    with pytest.raises(TargetError, match=r"^cpu runs the bundle's own graphs and needs no engine"):
        chosen(graphs(model, *HALF), "fp32", "cpu")


RTX = {"tensorrt_rtx": Probe("1.7.1.116", "")}
BOTH = {**RTX, "tensorrt": Probe("10.13.3.9", "")}
ABSENT = Presence("", "this machine has no GPU")
HERE = Presence("a card", "")


def backend_for(
    name: str,
    installed: dict[str, Probe],
    presence: Presence = ABSENT,
    wanted: str | None = None,
    root: str = "B",
) -> Backend:
    from pathlib import Path

    return choose_backend(
        find_target(name),
        wanted,
        Path(root),
        probe=lambda backend: installed.get(backend, Probe("", f"No module named '{backend}'")),
        presence=lambda _target: presence,
    )


def test_the_first_backend_that_can_build_here_is_chosen() -> None:
    assert backend_for("rtx-40", BOTH) == ("tensorrt_rtx", "1.7.1.116")
    assert backend_for("rtx-40", {"tensorrt": BOTH["tensorrt"]}, HERE).name == "tensorrt"
    assert backend_for("rtx-40", BOTH, HERE, wanted="tensorrt") == ("tensorrt", "10.13.3.9")
    assert backend_for("h100", BOTH, HERE).name == "tensorrt"


@pytest.mark.parametrize(
    ("target", "installed", "wanted", "words"),
    [
        (
            "h100",
            RTX,
            "tensorrt_rtx",
            (
                r"^TensorRT-RTX does not serve h100; build it on the H100 .* itself \(pip install "
                r"tensorrt; .*\): animatic build B --target h100\.$"
            ),
        ),
        (
            "jetson-thor",
            RTX,
            None,
            (
                r"^Nothing here builds engines for jetson-thor: tensorrt cannot be imported here "
                r"\(No module .*\); build it on the .* itself .*: animatic build B --target "
                r"jetson-thor\.$"
            ),
        ),
        ("h100", BOTH, None, r"TensorRT builds only where the card is \(this machine has no GPU\)"),
        (
            "rtx-40",
            {"tensorrt_rtx": Probe("0.9.1", "")},
            None,
            (
                r"tensorrt_rtx 0\.9\.1 is here and rtx-40 takes tensorrt_rtx>=1\.0.*; "
                r"`pip install .*\[build\].* then animatic build B --target rtx-40\.$"
            ),
        ),
        ("rtx-40", {}, "tensorrt_rtx", r"tensorrt_rtx cannot be imported here .*\[build\]"),
    ],
)
def test_where_nothing_builds_the_sentence_says_where_it_does(
    target: str, installed: dict[str, Probe], wanted: str | None, words: str
) -> None:
    with pytest.raises(TargetError, match=words):
        backend_for(target, installed, wanted=wanted)


@pytest.fixture
def order(model: Bundle) -> Order:
    backend = Backend("tensorrt_rtx", "1.7.1.116")
    return Order.of(model, model.graph("denoiser"), find_target("rtx-40"), backend)


def test_everything_that_changes_the_engine_changes_the_fingerprint(
    order: Order, model: Bundle
) -> None:
    def another(
        graph: GraphSpec = order.graph,
        target: Target = order.target,
        backend: Backend = order.backend,
        bundle: Bundle = model,
    ) -> str:
        return Order.of(bundle, graph, target, backend).fingerprint

    assert another() == order.fingerprint
    more = replace(model.geometry, block_latent_frames=3)
    others = {
        another(graph=replace(order.graph, sha256="1" * 64)),
        another(target=find_target("rtx-50")),
        another(target=replace(order.target, memory_gib=80.0)),  # the workspace
        another(target=replace(order.target, compute_capability=(9, 0))),
        another(backend=order.backend._replace(version="1.8")),
        another(backend=order.backend._replace(name="tensorrt")),
        another(bundle=replace(model, geometry=more)),
    }
    assert len(others | {order.fingerprint}) == 8


def test_a_layer_may_use_a_quarter_of_the_smallest_card() -> None:
    target = replace(find_target("rtx-40"), memory_gib=6.0)
    assert workspace_bytes(target) == GIB + GIB // 2


def test_the_rule_of_thumb_covers_what_was_measured() -> None:
    """2.84 GB of graph took 9.75 GB of memory and gave a plan of 2.875 GB; so did smaller ones."""
    for graph, peak, plan in (
        (2_840_000_000, 9_750_000_000, 2_875_000_000),
        (45_175_536, 400 << 20, 49_051_356),
        (19_467_664, 444 << 20, 28_009_676),
    ):
        memory, disk = needed_room(graph)
        assert memory is not None
        assert disk is not None
        assert peak < memory < 2 * peak
        assert disk > plan


def test_what_is_not_known_is_no_reason_to_refuse(tmp_path: Path) -> None:
    refuse_if_short(needed_room(1 << 40), Room(None, None), doing="It", folder=tmp_path)
    with pytest.raises(NoRoomError, match=r"^It needs about 3584\.5 GiB of memory and 2\.0 GiB"):
        refuse_if_short(needed_room(1 << 40), Room(2 * GIB, None), doing="It", folder=tmp_path)


def test_this_machine_is_measured(tmp_path: Path) -> None:
    room = measure(tmp_path)
    assert room.disk is not None
    assert room.disk > 0
    assert measure(tmp_path / "missing").disk is None
    assert room.memory is None or 0 < room.memory < 1 << 50
    peak = peak_rss()
    assert peak is None or 10 << 20 < peak < 1 << 40


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 4096 << 10),
        ({"memory.max": "max\n", "memory.current": "7\n"}, 4096 << 10),
        ({"memory.max": "3000\n", "memory.current": "1000\n"}, 2000),
        (
            {
                "memory.max": "3000\n",
                "memory.current": "1000\n",
                "memory.stat": "anon 300\ninactive_file 500\n",
            },
            2500,
        ),
        ({"memory.max": "1000\n", "memory.current": "3000\n"}, 0),
    ],
)
def test_a_container_s_limit_counts(tmp_path: Path, group: dict[str, str], expected: int) -> None:
    files = {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    4096 kB\nBuffers: 3 kB\n"}
    files |= {f"sys/fs/cgroup/{name}": text for name, text in group.items()}
    assert available_memory(system(tmp_path, files)) == expected


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
