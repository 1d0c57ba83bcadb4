"""What a prolog needs of the signal module, which imports enum to call its numbers by name: that takes 3 ms."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import ITIMER_REAL, SIGALRM, SIGKILL, setitimer, signal
else:
    try:
        from _signal import ITIMER_REAL, SIGALRM, SIGKILL, setitimer, signal
    except ImportError:
        from signal import ITIMER_REAL, SIGALRM, SIGKILL, setitimer, signal

__all__ = ["ITIMER_REAL", "SIGALRM", "SIGKILL", "setitimer", "signal"]
