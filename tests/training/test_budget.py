from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatic_training import budget as budget_module
from animatic_training.budget import (
    Budget,
    DamagedCheckpointError,
    Stopped,
    is_done,
    read_checkpoint,
    seed_noise,
    write_checkpoint,
)
from tests.training.toy import Clock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still unless a test moves it."""
    made = Clock()
    monkeypatch.setattr(budget_module, "time", made)
    return made


def run(budget: Budget, clock: Clock, *, seconds: float, steps: int | None = None) -> list[int]:
    """Take steps of so many seconds; stop before the step after `steps`."""
    taken: list[int] = []
    for step in budget:
        if len(taken) == steps:
            break
        taken.append(step)
        clock.now += seconds
    return taken


def test_a_budget_ends_when_its_minutes_are_used(clock: Clock) -> None:
    budget = Budget(1.0)
    assert run(budget, clock, seconds=10) == [0, 1, 2, 3, 4, 5]
    assert budget.used == pytest.approx(60)
    assert budget.step == 6
    assert budget.share == 1.0
    assert run(budget, clock, seconds=10) == []


def test_a_budget_that_was_stopped_goes_on(clock: Clock) -> None:
    first = Budget(1.0)
    run(first, clock, seconds=10, steps=4)
    assert first.used == pytest.approx(40)
    assert first.step == 4
    clock.now += 1e6  # the time between two runs counts for nothing
    second = Budget(1.0, used=first.used, step=first.step)
    assert second.share == pytest.approx(4 / 6)
    assert run(second, clock, seconds=10) == [4, 5]


def test_it_saves_every_two_minutes_and_at_the_end(clock: Clock) -> None:
    saved: list[float] = []

    def save() -> None:
        saved.append(budget.used)
        clock.now += 1000  # slow disks are not counted

    budget = Budget(7.0, save=save)
    run(budget, clock, seconds=50)
    assert saved == pytest.approx([150, 300, 450, 450])
    assert budget.step == 9


def test_figures_are_running_means_and_are_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "animatic_training")
    budget = Budget(1.0)
    for _ in budget:
        budget.note(loss=2.0 if budget.step == 0 else 1.0)
        clock.now += 21
    assert caplog.messages[0] == "step 1 35% loss=2.0000 (0.05 steps/s)"
    assert caplog.messages[1] == "step 2 70% loss=1.9500 (0.05 steps/s)"


def test_what_a_compiler_takes_is_not_counted(clock: Clock) -> None:
    """Else the first step of a short stage would be its last."""
    budget = Budget(1.0, longest=10.0)
    for _ in budget:
        clock.now += 300 if budget.step in {0, 3} else 5
    assert budget.step == 10  # 2 of 10 seconds, 8 of 5
    assert budget.pace.rate == pytest.approx(1 / 5)
    assert budget.progress()["pace"] == budget.pace.rate


def test_a_budget_that_is_told_to_stop_saves_first(clock: Clock) -> None:
    saved: list[int] = []
    budget = Budget(1.0, save=lambda: saved.append(budget.step), stop=lambda: clock.now >= 30)
    with pytest.raises(Stopped):
        run(budget, clock, seconds=10)
    assert saved == [3]
    assert not budget.done


@given(share=st.floats(0, 2), floor=st.floats(0.001, 0.5))
def test_the_rate_is_a_share(share: float, floor: float) -> None:
    rate = Budget(1.0, used=60 * share).rate(floor=floor)
    assert 0 < rate <= 1 + 1e-9


def test_the_rate_warms_up_and_then_falls_to_its_floor() -> None:
    rates = [Budget(1.0, used=0.06 * n).rate() for n in range(1001)]
    warm, rest = rates[:21], rates[20:]
    assert warm == sorted(warm)
    assert rest == sorted(rest, reverse=True)
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert rates[-1] == pytest.approx(0.02)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "stage.pt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, {"model": {"weight": torch.arange(3)}, "used": 1.5, "step": 2})
    state = read_checkpoint(path)
    assert state is not None
    assert state["model"]["weight"].tolist() == [0, 1, 2]
    assert (state["used"], state["step"]) == (1.5, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["stage.pt"]


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ({"used": 60.0, "done": True}, True),
        ({"used": 60.0, "done": False}, False),  # the last step is taken, the rest is not
        ({"used": 30.0, "done": True}, False),  # the configuration gives more minutes now
        ({"used": 30.0, "done": False}, False),
        ({"used": 60.0}, True),  # from before the key
        ({"used": 30.0}, False),
    ],
)
def test_a_stage_is_done_when_it_says_so_and_its_minutes_are_used(
    state: dict[str, Any], *, done: bool
) -> None:
    assert is_done(state, 1.0) is done
    budget = Budget(1.0)
    budget.resume(state | {"step": 3})
    assert budget.done is done


def test_only_the_last_save_says_done_and_comes_after_the_finish(clock: Clock) -> None:
    happened: list[object] = []
    budget = Budget(7.0)
    budget.save = lambda: happened.append(budget.progress()["done"])
    budget.finish = lambda: happened.append("finish")
    run(budget, clock, seconds=150)
    assert happened == [False, False, False, "finish", True]


def test_the_noise_of_a_step_comes_once() -> None:
    drawn = set()
    for stage in (1, 2):
        for step in (0, 1, 700):
            seed_noise(5, stage, step)
            drawn.add(torch.rand(()).item())
    assert len(drawn) == 6
    seed_noise(5, 2, 700)
    assert torch.rand(()).item() in drawn


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 and nothing more"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stage.pt"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"stage\.pt is damaged .* delete it"):
        read_checkpoint(path)


def test_half_a_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stage.pt"
    write_checkpoint(path, {"model": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DamagedCheckpointError, match=r"stage\.pt is damaged .* delete it"):
        read_checkpoint(path)


def test_a_tensor_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "stage.pt"
    torch.save(torch.zeros(3), path)
    with pytest.raises(DamagedCheckpointError, match="not a stage's checkpoint"):
        read_checkpoint(path)


def break_off(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def save(state: dict[str, Any], file: BinaryIO) -> None:
        del state
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", save)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "stage.pt"
    write_checkpoint(path, {"step": 1})
    break_off(monkeypatch, error)
    with pytest.raises(type(error)):
        write_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert read_checkpoint(path) == {"step": 1}
