"""Which target a machine is. NVML stands for the driver: its answers are made up, our reading not.

Strings of boards and releases are those that the machines give.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from animatic.detect import AUTO, chosen_target, detect_device, detect_target
from animatic.errors import TargetError
from animatic.targets import load_targets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIB = 2**30
MISMATCH, MISSING, NOT_LOADED, FORBIDDEN, LOST = 18, 12, 9, 4, 15


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


@dataclass
class Card:
    name: str
    capability: tuple[int, int]
    memory: int | None = 8 * GIB
    uuid: str = "GPU-0"


class Nvml(ModuleType):
    """Answers as pynvml does, for cards that are given."""

    NVMLError = NvmlError
    NVML_ERROR_LIBRARY_NOT_FOUND = MISSING
    NVML_ERROR_DRIVER_NOT_LOADED = NOT_LOADED
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = MISMATCH
    NVML_ERROR_NO_PERMISSION = FORBIDDEN

    def __init__(self, *cards: Card, start: int = 0, count: int = 0) -> None:
        super().__init__("pynvml")
        self.cards, self.start, self.count, self.shut = cards, start, count, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.start:
            raise NvmlError(self.start)

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shut += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.count:
            raise NvmlError(self.count)
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> SimpleNamespace:  # noqa: N802
        assert uuid.startswith("MIG-")
        return SimpleNamespace(part_of=self.cards[0], name=f"{self.cards[0].name} MIG 1g.10gb")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part: Any) -> Any:  # noqa: N802
        return part.part_of

    def nvmlDeviceGetName(self, card: Any) -> str:  # noqa: N802
        return str(card.name)

    def nvmlDeviceGetUUID(self, card: Card) -> str:  # noqa: N802
        return card.uuid

    def nvmlDeviceGetCudaComputeCapability(self, card: Any) -> list[int]:  # noqa: N802
        if not isinstance(card, Card):
            raise NvmlError(LOST)
        return list(card.capability)

    def nvmlDeviceGetMemoryInfo(self, card: Any) -> SimpleNamespace:  # noqa: N802
        memory = 10 * GIB if not isinstance(card, Card) else card.memory
        if memory is None:
            raise NvmlError(3)  # NVML_ERROR_NOT_SUPPORTED
        return SimpleNamespace(total=memory)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.95.05"


def put(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def with_card(root: Path) -> Path:
    """A PCI bus with a card by NVIDIA and its audio part."""
    device = "sys/bus/pci/devices/0000:01:00."
    files = {f"{device}0/vendor": "0x10de\n", f"{device}0/class": "0x030000\n"}
    return put(root, {**files, f"{device}1/vendor": "0x10de\n", f"{device}1/class": "0x040300\n"})


CARDS = [
    ("GeForce RTX 2080 Ti", (7, 5), "rtx-20"),
    ("NVIDIA GeForce RTX 2070 Super with Max-Q Design", (7, 5), "rtx-20"),
    ("Quadro RTX 8000", (7, 5), "rtx-20"),
    ("NVIDIA TITAN RTX", (7, 5), "rtx-20"),
    ("NVIDIA GeForce RTX 2050", (8, 6), "rtx-30"),
    ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", (8, 6), "rtx-30"),
    ("NVIDIA GeForce RTX 3090", (8, 6), "rtx-30"),
    ("NVIDIA GeForce RTX 4060 Ti", (8, 9), "rtx-40"),
    ("NVIDIA GeForce RTX 4090 D", (8, 9), "rtx-40"),
    ("NVIDIA GeForce RTX 5070 Ti Laptop GPU", (12, 0), "rtx-50"),
    ("NVIDIA RTX A6000", (8, 6), "rtx-a"),
    ("NVIDIA RTX A500 Laptop GPU", (8, 6), "rtx-a"),
    ("NVIDIA RTX A800 40GB Active", (8, 0), "a100"),
    ("NVIDIA RTX 4000 SFF Ada Generation", (8, 9), "rtx-ada"),
    ("NVIDIA RTX 500 Ada Generation Laptop GPU", (8, 9), "rtx-ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", (12, 0), "rtx-pro"),
    ("NVIDIA RTX PRO 500 Blackwell Generation Laptop GPU", (12, 0), "rtx-pro"),
    ("NVIDIA L4", (8, 9), "l4"),
    ("NVIDIA L40S", (8, 9), "l40s"),
    ("NVIDIA A100-SXM4-80GB", (8, 0), "a100"),
    ("NVIDIA H100 80GB HBM3", (9, 0), "h100"),
    ("NVIDIA H200", (9, 0), "h100"),
    ("NVIDIA GH200 480GB", (9, 0), "h100"),
    ("NVIDIA GB10", (12, 1), "dgx-spark"),
]


@pytest.mark.parametrize(("name", "capability", "target"), CARDS, ids=str)
def test_a_card_has_its_target(
    tmp_path: Path, name: str, capability: tuple[int, int], target: str
) -> None:
    nvml = Nvml(Card(name, capability, 12 * GIB))
    found = detect_target(root=tmp_path, nvml=nvml, environment={})
    assert (found.target.name, found.device, found.note) == (target, name, "")
    assert (found.compute_capability, found.memory_gib) == (capability, 12)
    assert found.driver == "580.95.05"
    assert nvml.shut == 1


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, _, target in CARDS])
def test_a_card_has_no_other_target(name: str, target: str) -> None:
    assert [other.name for other in load_targets().values() if other.fits(name)] == [target]


@pytest.mark.parametrize(
    ("name", "capability", "remedy"),
    [
        ("NVIDIA A10", (8, 6), "give --target rtx-30 or rtx-a, which has the same"),
        ("Tesla T4", (7, 5), "give --target rtx-20, which has the same"),
        ("NVIDIA L40", (8, 9), "give --target rtx-40 or rtx-ada or l4 or l40s, which"),
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1), "use the target cpu, as no other has this"),
        ("NVIDIA B200", (10, 0), "use the target cpu"),
        ("NVIDIA GeForce RTX 4090", (8, 6), "give --target rtx-30 or rtx-a"),  # no such thing
    ],
)
def test_an_unknown_card_is_told_what_to_give(
    tmp_path: Path, name: str, capability: tuple[int, int], remedy: str
) -> None:
    nvml = Nvml(Card(name, capability))
    with pytest.raises(TargetError) as caught:
        detect_target(root=tmp_path, nvml=nvml, environment={})
    major, minor = capability
    assert str(caught.value).startswith(f"{name} (compute capability {major}.{minor}) is not among")
    assert remedy in str(caught.value)
    assert nvml.shut == 1


@pytest.mark.parametrize(
    ("code", "card", "sentence"),
    [
        (MISSING, False, "shows no NVIDIA GPU and no driver for one; name a target"),
        (NOT_LOADED, False, "shows no NVIDIA GPU and no driver for one; name a target"),
        (MISSING, True, "an NVIDIA GPU but no driver for it .* install NVIDIA's driver"),
        (NOT_LOADED, True, "installed but not loaded; `sudo modprobe nvidia`"),
        (MISMATCH, True, "of different versions, as after an update; restart the machine"),
        (FORBIDDEN, True, "may not be used by this user; give yourself permission"),
        (LOST, True, r"does not start \(code 15\); restart the machine"),
    ],
)
def test_a_driver_that_does_not_start(
    tmp_path: Path, code: int, sentence: str, *, card: bool
) -> None:
    root = with_card(tmp_path) if card else tmp_path
    nvml = Nvml(start=code)
    with pytest.raises(TargetError, match=sentence) as caught:
        detect_target(root=root, nvml=nvml, environment={})
    assert "`animatic targets` lists them" in str(caught.value)
    assert nvml.shut == 0  # what did not start is not shut down


def test_a_part_that_is_no_display_is_no_gpu(tmp_path: Path) -> None:
    with_card(tmp_path)
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor").write_text("0x8086\n", "utf-8")
    with pytest.raises(TargetError, match="shows no NVIDIA GPU and no driver"):
        detect_target(root=tmp_path, nvml=Nvml(start=MISSING), environment={})


def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="shows no NVIDIA GPU; name a target"):
        detect_target(root=tmp_path, nvml=Nvml(), environment={})


def test_a_driver_that_stops_answering(tmp_path: Path) -> None:
    nvml = Nvml(count=LOST)
    with pytest.raises(TargetError, match=r"does not answer \(code 15\); restart"):
        detect_target(root=tmp_path, nvml=nvml, environment={})
    assert nvml.shut == 1


def test_the_package_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("animatic.detect.importlib.import_module", absent)
    with pytest.raises(TargetError, match=r"nvidia-ml-py is missing; `pip install .*\[gpu\]"):
        detect_target(root=tmp_path, environment={})


def test_the_real_pynvml_without_a_driver() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        pass
    else:
        pynvml.nvmlShutdown()
        pytest.skip("this machine has a driver")
    with pytest.raises(TargetError, match=r"driver.*`animatic targets` lists them\)\.$"):
        detect_target()


def test_the_real_pynvml_has_every_name_that_is_used() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    names = {name for name in vars(Nvml) if name.lower().startswith("nvml")}
    assert len(names) > 12
    for name in names:
        assert hasattr(pynvml, name), name
    for name in ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH"):
        assert getattr(pynvml, f"NVML_ERROR_{name}") == getattr(Nvml, f"NVML_ERROR_{name}")
    assert pynvml.NVMLError(MISMATCH).value == MISMATCH


@pytest.mark.device
def test_the_real_device_is_the_one_that_cuda_takes() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs animatic[gpu]")
    error, count = runtime.cudaGetDeviceCount()
    if error != runtime.cudaError_t.cudaSuccess or count == 0:
        pytest.skip("this machine has no NVIDIA GPU")
    found = detect_device()
    _, properties = runtime.cudaGetDeviceProperties(0)
    if "PCI_BUS_ID" not in found.note:
        assert found.name == properties.name.decode()
        assert found.compute_capability == (properties.major, properties.minor)
    assert found.memory_gib > 1
    assert found.driver


TWO = (
    Card("NVIDIA GeForce RTX 3090", (8, 6), uuid="GPU-aaaa-1"),
    Card("NVIDIA GeForce RTX 4090", (8, 9), uuid="GPU-bbbb-2"),
)
BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("environment", "target", "note"),
    [
        (BUS, "rtx-30", "the first of 2 GPUs"),
        ({}, "rtx-30", "the first of 2 GPUs; set CUDA_DEVICE_ORDER=PCI_BUS_ID so that"),
        ({**BUS, "CUDA_VISIBLE_DEVICES": "1"}, "rtx-40", "the first that CUDA_VISIBLE_DEVICES"),
        ({**BUS, "CUDA_VISIBLE_DEVICES": "1,0"}, "rtx-40", "the first that CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "rtx-40", "; set CUDA_DEVICE_ORDER=PCI_BUS_ID so that"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, "rtx-40", "CUDA_VISIBLE_DEVICES leaves of 2 GPUs"),
    ],
)
def test_one_of_several(
    tmp_path: Path, environment: dict[str, str], target: str, note: str
) -> None:
    found = detect_target(root=tmp_path, nvml=Nvml(*TWO), environment=environment)
    assert found.target.name == target
    assert note in found.note
    assert ("set CUDA_DEVICE_ORDER" in found.note) == ("set CUDA_DEVICE_ORDER" in note)


def test_of_equal_gpus_any_order_is_right(tmp_path: Path) -> None:
    found = detect_target(root=tmp_path, nvml=Nvml(TWO[1], TWO[1]), environment={})
    assert found.note == "the first of 2 GPUs"


@pytest.mark.parametrize("visible", ["", "-1", "2", "none", "GPU-cccc"])
def test_every_gpu_hidden(tmp_path: Path, visible: str) -> None:
    with pytest.raises(TargetError, match=r"hides every GPU of this machine \(it has 2\); unset"):
        detect_target(root=tmp_path, nvml=Nvml(*TWO), environment={"CUDA_VISIBLE_DEVICES": visible})


def test_a_part_of_a_gpu(tmp_path: Path) -> None:
    nvml = Nvml(Card("NVIDIA A100-SXM4-80GB", (8, 0), 80 * GIB))
    found = detect_target(
        root=tmp_path, nvml=nvml, environment={"CUDA_VISIBLE_DEVICES": "MIG-1234"}
    )
    assert (found.target.name, found.device) == ("a100", "NVIDIA A100-SXM4-80GB MIG 1g.10gb")
    assert found.memory_gib == 10


def test_a_device_of_no_target_is_a_device(tmp_path: Path) -> None:
    found = detect_device(root=tmp_path, nvml=Nvml(Card("NVIDIA A10", (8, 6))), environment={})
    assert (found.name, found.compute_capability) == ("NVIDIA A10", (8, 6))


def test_memory_that_is_the_systems(tmp_path: Path) -> None:
    put(tmp_path, {"proc/meminfo": "MemTotal:       127601388 kB\nMemFree: 1 kB\n"})
    nvml = Nvml(Card("NVIDIA GB10", (12, 1), None))
    assert detect_target(root=tmp_path, nvml=nvml, environment={}).memory_gib == 121.7


JETSONS = [
    ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin", (8, 7)),
    ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "jetson-orin-nx-nano", (8, 7)),
    ("NVIDIA Jetson Orin Nano Developer Kit Super", "jetson-orin-nx-nano", (8, 7)),
    ("NVIDIA Jetson AGX Thor Developer Kit", "jetson-thor", (11, 0)),
]
R36 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"


@pytest.mark.parametrize(("board", "target", "capability"), JETSONS)
def test_a_jetson_is_known_by_its_board(
    tmp_path: Path, board: str, target: str, capability: tuple[int, int]
) -> None:
    files = {"proc/device-tree/model": f"{board}\0", "etc/nv_tegra_release": R36}
    put(tmp_path, {**files, "proc/meminfo": "MemTotal:        7865356 kB\n"})
    # NVML is not asked: on these boards it says "Orin (nvgpu)", or does not start.
    found = detect_target(root=tmp_path, nvml=Nvml(start=MISSING), environment={})
    assert (found.target.name, found.device) == (target, board)
    assert (found.compute_capability, found.memory_gib) == (capability, 7.5)
    assert found.driver == "L4T 36.4.3"


def test_a_jetson_without_its_release_file(tmp_path: Path) -> None:
    put(tmp_path, {"proc/device-tree/model": f"{JETSONS[0][0]}\0"})
    found = detect_target(root=tmp_path, nvml=Nvml(start=MISSING), environment={})
    assert (found.target.name, found.driver) == ("jetson-agx-orin", "")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0"}, "NVIDIA Jetson Nano"),
        ({"etc/nv_tegra_release": R36}, "its device tree gives no name"),
    ],
)
def test_another_jetson(tmp_path: Path, files: dict[str, str], named: str) -> None:
    with pytest.raises(TargetError, match=f"{named}.* is none that a target is for"):
        detect_target(root=put(tmp_path, files), nvml=Nvml(start=MISSING), environment={})


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    put(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    with pytest.raises(TargetError, match="shows no NVIDIA GPU"):
        detect_target(root=tmp_path, nvml=Nvml(start=MISSING), environment={})


def test_a_target_by_name_asks_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(name: str) -> ModuleType:
        raise AssertionError(name)

    monkeypatch.setattr(importlib, "import_module", unasked)
    assert chosen_target("h100").name == "h100"
    with pytest.raises(TargetError, match="There is no target 'h101'"):
        chosen_target("h101")


def test_auto_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(Card("NVIDIA L4", (8, 9)))
    found = detect_target(root=tmp_path, nvml=nvml, environment={})
    monkeypatch.setattr("animatic.detect.detect_target", lambda: found)
    assert chosen_target(AUTO).name == "l4"
