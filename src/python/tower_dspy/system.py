"""What a worker process asks of the system: to end with its parent, and to get no more memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """The kernel ends this process when its parent ends, also while code here holds the GIL."""
    with contextlib.suppress(AttributeError, OSError):  # not on this system: the socket tells
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
