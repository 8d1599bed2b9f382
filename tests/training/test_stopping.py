from __future__ import annotations

import os
import signal

import pytest

from animatic_training import stopping
from animatic_training.budget import Stopped
from animatic_training.stopping import Stop
from tests.training.toy import Clock


def test_a_run_stops_after_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(stopping, "time", clock)
    stop = Stop(1.5)
    clock.now = 89
    assert not stop()
    stop.obey()
    clock.now = 90
    assert stop()
    with pytest.raises(Stopped):
        stop.obey()


def test_a_run_stops_when_the_system_asks() -> None:
    stop, before = Stop(), signal.getsignal(signal.SIGTERM)
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGTERM) == before
