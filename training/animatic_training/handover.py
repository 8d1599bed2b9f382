"""What another machine needs to go on, in files small enough to come back and be sent again.

A checkpoint of the denoiser is 300 MB, most of it the optimisers' memory, which a few dozen steps
make again. Handed over are the weights of a network in float16 (of the denoiser their average) and
the stage's clock: `vae.handover` 22 MB and `denoiser.handover` 50 MB in v1, in parts (see `parts`).
Taken up, they are the checkpoints of a run without optimisers; latents are made anew.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from safetensors import safe_open
from safetensors.torch import save

from animatic_training.atomic import whole_file
from animatic_training.budget import read_checkpoint, write_checkpoint
from animatic_training.parts import join_file, split_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CLOCK: Final = ("used", "step", "done")
FILES: Final = ("vae.pt", "stills.pt", "denoiser.pt", "student-dmd.pt", "student-perflow.pt")
"""Checkpoints that are handed over; the probe is written on its own."""


def _name(file: str) -> str:
    return file.replace(".pt", ".handover")


def _weights(file: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """Return a checkpoint's weights under names that say which network they are of."""
    if file == "vae.pt":
        return {f"model.{name}": value for name, value in state["model"].items()}
    weights = {f"ema.{name}": value for name, value in state["ema"].items()}
    reader = {n: v for n, v in state.get("objective", {}).items() if n.startswith("reader.")}
    return weights | {f"objective.{name}": value for name, value in reader.items()}


def hand_over(run: Path, file: str, part_bytes: int) -> None:
    """Write a checkpoint's part of `run/handover/` where there is none, or an older one."""
    known = run / "handover" / f"{_name(file)}.parts"
    if not (run / file).exists():
        return
    if known.exists() and known.stat().st_mtime_ns >= (run / file).stat().st_mtime_ns:
        return
    state = read_checkpoint(run / file)
    if state is None:
        return
    halves = {n: v.half().contiguous() for n, v in _weights(file, state).items()}
    path = run / "handover" / _name(file)
    path.parent.mkdir(exist_ok=True)
    clock = json.dumps({name: state[name] for name in CLOCK})
    with whole_file(path) as temporary:
        temporary.write_bytes(save(halves, {"clock": clock}))
    split_file(path, part_bytes)
    path.unlink()


def take_up(folder: Path, run: Path) -> list[str]:
    """Write the checkpoints that a folder of parts holds into a run that lacks them; name them.

    PartsError if parts are missing or damaged.
    """
    taken = []
    for file in FILES:
        path = folder / _name(file)
        if (run / file).exists() or not path.with_name(f"{path.name}.parts").exists():
            continue
        joined = run / path.name  # what came back from a machine may be read-only
        join_file(path, joined)
        write_checkpoint(run / file, _read(joined))
        joined.unlink()
        taken.append(file)
    return taken


def _read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's state: what is trained and its average begin as the same."""
    with safe_open(path, framework="pt") as file:
        clock: dict[str, Any] = json.loads(file.metadata()["clock"])
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118

    def own(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}

    if path.name.startswith("vae"):
        return {"model": own("model."), **clock}
    ema = own("ema.")
    if path.name.startswith("student"):
        return {"ema": ema, "student": ema, "critic": ema, **clock}
    denoiser = {f"denoiser.{name}": value for name, value in ema.items()}
    return {"ema": ema, "objective": {**denoiser, **own("objective.")}, **clock}
