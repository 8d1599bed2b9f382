"""Which target this machine is: by NVML, or on a Jetson by the system's own files.

NVML comes with NVIDIA's driver and its Python module, pynvml, with `animatic[gpu]`. On a Jetson
NVML names the chip but not the board ("Orin (nvgpu)"); the device tree names the board.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from animatic.errors import TargetError
from animatic.extras import how_to_add
from animatic.targets import Target, find_target, load_targets, targets_like

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

__all__ = ["AUTO", "Detection", "Device", "chosen_target", "detect_device", "detect_target"]

_log = logging.getLogger(__name__)

AUTO: Final = "auto"
GIB: Final = 2**30
NVIDIA: Final = "0x10de"  # the PCI identity of the vendor
_NAME_ONE: Final = "name a target with --target (`animatic targets` lists them)"
_OR_NAME_ONE: Final = f"or {_NAME_ONE}"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """The GPU of this machine that CUDA takes first.

    name: as NVML or the Jetson's device tree gives it.
    compute_capability: (8, 9) for SM89.
    memory_gib: its memory in GiB; all of the system's where the two share one.
    driver: the driver's version, or the release of a Jetson's system; "" if it does not tell.
    note: which of several GPUs this is; "" where there is one.
    """

    name: str
    compute_capability: tuple[int, int]
    memory_gib: float
    driver: str
    note: str = ""


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """This machine's target, and the device that it was recognised by; fields as in Device."""

    target: Target
    device: str
    compute_capability: tuple[int, int]
    memory_gib: float
    driver: str
    note: str = ""


def chosen_target(name: str) -> Target:
    """Look up a target by name, where "auto" is this machine; TargetError as its two parts."""
    return detect_target().target if name == AUTO else find_target(name)


def detect_target(
    *,
    root: Path = Path("/"),
    nvml: ModuleType | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Detection:
    """Find this machine's target; parameters and errors as in `detect_device`.

    TargetError also where the card is of no target: it names those of its compute capability.
    """
    found = detect_device(root=root, nvml=nvml, environment=environment)
    return Detection(
        target=_target(found.name, found.compute_capability),
        device=found.name,
        compute_capability=found.compute_capability,
        memory_gib=found.memory_gib,
        driver=found.driver,
        note=found.note,
    )


def detect_device(
    *,
    root: Path = Path("/"),
    nvml: ModuleType | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Device:
    """Find this machine's GPU, of whatever target; TargetError says why there is none.

    root: where the system's files are looked for.
    nvml: in the place of pynvml.
    environment: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER choose among several GPUs, as in CUDA.
    """
    board = _text(root / "proc/device-tree/model").strip("\0 \n")
    release = _text(root / "etc/nv_tegra_release")
    if release or "jetson" in board.lower():
        return _jetson(board, release, root)
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ModuleNotFoundError as error:
            raise TargetError(
                "This installation cannot look for a GPU, as the package nvidia-ml-py is missing; "
                f"{how_to_add('gpu')} brings it, {_OR_NAME_ONE}."
            ) from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise TargetError(_why_not(nvml, error, root)) from error
    try:
        return _first_visible(nvml, root, environment)
    except nvml.NVMLError as error:
        raise TargetError(
            f"The NVIDIA driver does not answer ({error}); restart the machine, {_OR_NAME_ONE}."
        ) from error
    finally:
        nvml.nvmlShutdown()


def _why_not(nvml: ModuleType, error: Exception, root: Path) -> str:
    """Say in a sentence why NVML does not start; its error codes are those of nvml.h."""
    code: object = getattr(error, "value", None)
    if code in {nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
        if not any(_on_pci(root)):
            return f"This machine shows no NVIDIA GPU and no driver for one; {_NAME_ONE}."
        if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return (
                "This machine has an NVIDIA GPU but no driver for it (the NVML library is not "
                "found); install NVIDIA's driver, in a container start it with the GPU, "
                f"{_OR_NAME_ONE}."
            )
        return (
            "The NVIDIA driver is installed but not loaded; `sudo modprobe nvidia` or restart "
            f"the machine, {_OR_NAME_ONE}."
        )
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return (
            "The NVIDIA driver that is loaded and its library are of different versions, as after "
            f"an update; restart the machine, {_OR_NAME_ONE}."
        )
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return (
            "The NVIDIA driver may not be used by this user; give yourself permission to "
            f"/dev/nvidia*, {_OR_NAME_ONE}."
        )
    return f"The NVIDIA driver does not start ({error}); restart the machine, {_OR_NAME_ONE}."


def _on_pci(root: Path) -> Iterator[Path]:
    """Display controllers by NVIDIA, whether or not a driver drives them (Linux)."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        # Class 03xxxx: display; a card's audio and USB parts have others.
        if _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(
            "0x03"
        ):
            yield device


def _first_visible(nvml: ModuleType, root: Path, environment: Mapping[str, str]) -> Device:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if not handles:
        raise TargetError(f"This machine shows no NVIDIA GPU; {_NAME_ONE}.")
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    handle = handles[0]
    if visible is not None:
        handle = _chosen(nvml, handles, visible.split(",")[0].strip())
    if handle is None:
        raise TargetError(
            f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU of this machine (it has "
            f"{len(handles)}); unset it, {_OR_NAME_ONE}."
        )
    found = Device(
        name=_string(nvml.nvmlDeviceGetName(handle)),
        compute_capability=_capability(nvml, handle),
        memory_gib=_memory(nvml, handle, root),
        driver=_string(nvml.nvmlSystemGetDriverVersion()),
        note=_note(nvml, handles, environment) if len(handles) > 1 else "",
    )
    if found.note:
        _log.info("%s is %s", found.name, found.note)
    return found


def _note(nvml: ModuleType, handles: list[object], environment: Mapping[str, str]) -> str:
    """Say which of several GPUs was taken, and what to set where CUDA may take another."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    why = "the first" if visible is None else "the first that CUDA_VISIBLE_DEVICES leaves"
    note = f"{why} of {len(handles)} GPUs"
    names = {_string(nvml.nvmlDeviceGetName(handle)) for handle in handles}
    by_number = not (visible or "").startswith(("GPU-", "MIG-"))
    if len(names) > 1 and by_number and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        # NVML counts along the bus; CUDA puts the fastest first unless it is told otherwise.
        note += "; set CUDA_DEVICE_ORDER=PCI_BUS_ID so that CUDA counts them alike"
    return note


def _chosen(nvml: ModuleType, handles: list[object], choice: str) -> object | None:
    """Find the GPU that the first word of CUDA_VISIBLE_DEVICES means; None if it means none."""
    if choice.startswith("MIG-"):
        handle: object = nvml.nvmlDeviceGetHandleByUUID(choice)
        return handle
    if choice.startswith("GPU-"):  # CUDA takes a beginning of the identity, too
        found = (h for h in handles if _string(nvml.nvmlDeviceGetUUID(h)).startswith(choice))
        return next(found, None)
    index = int(choice) if choice.isdecimal() else -1
    return handles[index] if 0 <= index < len(handles) else None


def _capability(nvml: ModuleType, handle: object) -> tuple[int, int]:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:  # a part of a GPU may leave this to the whole
        whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(whole)
    return int(major), int(minor)


def _memory(nvml: ModuleType, handle: object, root: Path) -> float:
    try:
        total: int = nvml.nvmlDeviceGetMemoryInfo(handle).total
    except nvml.NVMLError:  # not supported where the memory is the system's, as on DGX Spark
        return _system_memory(root)
    return round(total / GIB, 1)


def _target(device: str, capability: tuple[int, int]) -> Target:
    for target in load_targets().values():
        if target.compute_capability == capability and target.fits(device):
            return target
    major, minor = capability
    alike = targets_like(capability)
    mend = (
        f"give --target {' or '.join(alike)}, which has the same compute capability"
        if alike
        else "use the target cpu, as no other has this compute capability"
    )
    raise TargetError(
        f"{device} (compute capability {major}.{minor}) is not among the cards of any target; "
        f"{mend}."
    )


def _jetson(board: str, release: str, root: Path) -> Device:
    """Look a Jetson up by its board; the release file begins "# R36 (release), REVISION: 4.3"."""
    found = re.match(r"#\s*R(\d+).*?REVISION:\s*([\d.]+)", release)
    for target in load_targets().values():
        capability = target.compute_capability
        if capability is not None and target.name.startswith("jetson-") and target.fits(board):
            return Device(
                name=board,
                compute_capability=capability,
                memory_gib=_system_memory(root),
                driver=f"L4T {found[1]}.{found[2]}" if found else "",
            )
    raise TargetError(
        f"This Jetson ({board or 'its device tree gives no name'}) is none that a target is for; "
        f"{_NAME_ONE}."
    )


def _string(value: str | bytes) -> str:
    """Text of NVML, which older versions of pynvml give as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _system_memory(root: Path) -> float:
    """All memory of a Linux system, in GiB; 0 if it does not tell."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return round(int(found[1]) * 1024 / GIB, 1) if found else 0.0


def _text(path: Path) -> str:
    """Read a small system file; "" where there is none."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
