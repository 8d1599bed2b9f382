from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatic_training import budget as budget_module
from animatic_training.budget import Budget, read_checkpoint, write_checkpoint
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
    assert caplog.messages[0] == "step 1 35% loss=2.0000"
    assert caplog.messages[1] == "step 2 70% loss=1.9500"


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


def break_off(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def save(state: dict[str, Any], path: Path) -> None:
        del state
        path.write_bytes(b"half a checkpoint")
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
