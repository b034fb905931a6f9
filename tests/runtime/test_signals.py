"""Ctrl-C once asks for an end, twice ends; the handlers that were there come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from raysafe.runtime.signals import SIGNALS, StopSignal


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_ends_at_once(number: signal.Signals) -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt), StopSignal(told.append) as stop:
        assert not stop.wanted
        os.kill(os.getpid(), number)
        assert stop.wanted
        assert told == ["stopping after this step, with a checkpoint (Ctrl-C again to stop at once)"]
        os.kill(os.getpid(), number)
        pytest.fail("it went on")
    assert len(told) == 1


def test_the_handlers_that_were_there_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="broken"), StopSignal(print):
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ValueError("broken")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_elsewhere_than_on_the_main_thread_the_callers_handlers_stand() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    inside: list[object] = []

    def work() -> None:
        with StopSignal(print) as stop:
            inside.extend([stop.wanted, *(signal.getsignal(number) for number in SIGNALS)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [False, *before]
