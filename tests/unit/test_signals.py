from __future__ import annotations

import signal
import time

import pytest

from slurm_fsx_tools import signals


@pytest.mark.parametrize("name", [name for name in signals.__all__ if name != "signal"])
def test_it_has_what_the_signal_module_has(name: str) -> None:
    assert getattr(signals, name) == getattr(signal, name)


def test_a_handler_is_called_when_the_timer_ends() -> None:
    called: list[int] = []
    before = signals.signal(signals.SIGALRM, lambda number, _: called.append(number))
    try:
        signals.setitimer(signals.ITIMER_REAL, 0.01)
        while not called:
            time.sleep(0.001)
    finally:
        signals.signal(signals.SIGALRM, before)
    assert called == [signal.SIGALRM]
