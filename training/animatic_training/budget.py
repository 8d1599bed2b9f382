"""Training by the clock: a stage lasts so many minutes, and stopping it loses little.

A stage's learning rate follows the share of its minutes that is used, and the minutes used so far
are kept in its checkpoint; so a stage that was stopped goes on where it was, and a stage on a
faster machine simply sees more clips.
"""

from __future__ import annotations

import logging
import pickle
import time
import zipfile
from dataclasses import dataclass, field
from math import cos, inf, pi
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from animatic_training.atomic import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

log = logging.getLogger("animatic_training")

CHECKPOINT_SECONDS = 120.0
LOG_SECONDS = 20.0
LONGEST_STEP = 1.0
"""Seconds that one step on an accelerator counts at most: one that takes longer (v1's are planned
at an eighth of that) waits for a compiler, and compiling is no training. Without this the first
step would use up the warm-up and much of a short stage."""


def never() -> bool:
    """Never ask a stage to stop."""
    return False


class Stopped(Exception):  # noqa: N818, nothing went wrong
    """A stage was asked to stop, and has written its checkpoint."""


@dataclass
class Pace:
    """How fast the steps of this process were, those left out that waited for a compiler."""

    steps: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Steps a second, 0 where none was taken."""
        return self.steps / self.seconds if self.seconds else 0.0


def peak_gigabytes() -> float:
    """Return the most that torch held on the accelerator since `Budget` began, in GB."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_initialized() else 0.0


@dataclass
class Budget:
    """A stage's clock: iterate it, one turn a step, until the minutes are used."""

    minutes: float
    used: float = 0.0
    """Seconds used, over all runs."""
    step: int = 0
    done: bool = False
    """Whether the minutes are used and `finish` has done its part."""
    finish: Callable[[], None] | None = None
    """What is left to do when the minutes are used, before the last checkpoint."""
    save: Callable[[], None] | None = None
    """Writes the stage's checkpoint; called every two minutes and at the end."""
    stop: Callable[[], bool] = never
    """Whether to save and raise `Stopped`; asked after every step."""
    longest: float = inf
    """Seconds that one step counts at most."""
    pace: Pace = field(default_factory=Pace)
    _figures: dict[str, float | Tensor] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Share of the minutes used, 0 to 1."""
        return min(self.used / (60 * self.minutes), 1.0)

    def keep(
        self,
        path: Path,
        modules: Mapping[str, nn.Module],
        optimiser_list: Sequence[torch.optim.Optimizer],
    ) -> None:
        """Keep clock, modules and optimisers in the checkpoint `path`; go on from one there.

        Sets `save`. A checkpoint that was handed over (see `handover`) has no optimisers: theirs
        begin anew.
        """
        if state := read_checkpoint(path):
            for name, module in modules.items():
                module.load_state_dict(state[name])
            if "optimisers" in state:
                for optimiser, own in zip(optimiser_list, state["optimisers"], strict=True):
                    optimiser.load_state_dict(own)
            self.resume(state)

        def save() -> None:
            state = {name: module.state_dict() for name, module in modules.items()}
            kept = {"optimisers": [optimiser.state_dict() for optimiser in optimiser_list]}
            write_checkpoint(path, {**state, **kept, **self.progress()})

        self.save = save

    def progress(self) -> dict[str, float | bool]:
        """Return what a checkpoint keeps of the clock; `resume` takes it back."""
        return {
            "used": self.used,
            "step": self.step,
            "done": self.done,
            "pace": self.pace.rate,
            "peak": peak_gigabytes(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.used, self.step = state["used"], state["step"]
        self.done = is_done(state, self.minutes)

    def rate(self, *, warm: float = 0.02, floor: float = 0.02) -> float:
        """Return the learning rate's factor: a short warm-up, then a cosine down to `floor`."""
        if self.share < warm:
            return max(self.share / warm, 0.02)
        done = (self.share - warm) / (1 - warm)
        return floor + (1 - floor) * 0.5 * (1 + cos(pi * done))

    def note(self, **figures: float | Tensor) -> None:
        """Remember figures for the next log line, as running means.

        Tensors stay where they are until then: to look at one is to wait for an accelerator.
        """
        for name, value in figures.items():
            own = value.detach() if isinstance(value, Tensor) else value
            self._figures[name] = 0.95 * self._figures.get(name, own) + 0.05 * own

    def __iter__(self) -> Iterator[int]:
        """Yield the number of every step until the minutes are used; save on the way."""
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        saved = logged = last = time.monotonic()
        while self.share < 1.0:
            yield self.step
            self.step += 1
            now = time.monotonic()
            self._count(now - last)
            last = now
            if now - logged > LOG_SECONDS:
                logged = now
                self._log()
            if self.stop():
                if self.save:
                    self.save()
                raise Stopped
            if self.save and now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = last = time.monotonic()
        if self.finish:
            self.finish()
        self.done = True
        if self.save:
            self.save()

    def _count(self, seconds: float) -> None:
        self.used += min(seconds, self.longest)
        if seconds <= self.longest:
            self.pace.steps += 1
            self.pace.seconds += seconds

    def _log(self) -> None:
        text = " ".join(f"{k}={float(v):.4f}" for k, v in self._figures.items())
        speed = f"{self.pace.rate:.2f} steps/s"
        if peak := peak_gigabytes():
            speed += f", {peak:.1f} GB at most"
        log.info("step %d %.0f%% %s (%s)", self.step, 100 * self.share, text, speed)


def longest_step(device: torch.device) -> float:
    """Return what one step counts at most: on a processor, however long it takes."""
    return inf if device.type == "cpu" else LONGEST_STEP


class DamagedCheckpointError(Exception):
    """A stage's checkpoint cannot be read; the message names the file."""


def is_done(state: Mapping[str, Any], minutes: float) -> bool:
    """Say whether a checkpoint is of a stage that came to the end of its `minutes`.

    Checkpoints of older runs do not say it: there the minutes used must tell.
    """
    return bool(state.get("done", True)) and Budget(minutes, used=state["used"]).share >= 1.0


def seed_noise(seed: int, stage: int, step: int) -> None:
    """Seed torch for a stage from `step` on: a stage that goes on must not replay its noise."""
    torch.manual_seed(int(np.random.SeedSequence((seed, stage, step)).generate_state(1)[0]))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save beside, then rename: a checkpoint of that name is always whole."""
    # Through a file of ours: torch's own reports a full disk as no OSError.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint made by `write_checkpoint`, or None where there is none.

    DamagedCheckpointError if the file is no checkpoint, or not a whole one.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedCheckpointError(
            f"{path} is damaged and cannot be read: delete it and run its stage again."
        ) from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(
            f"{path} is not a stage's checkpoint: delete it and run its stage again."
        )
    return state
