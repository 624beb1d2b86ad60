"""What a worker process asks of the system: to end with its parent, and to get no more memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """The kernel ends this process when its parent ends, also while code here holds the GIL."""
    with contextlib.suppress(AttributeError, OSError):  # not on this system: the socket tells
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(limit: int | None) -> None:
    """Has the system refuse this process, and what it starts, more private memory than `limit`."""
    if limit is None:
        return
    taken = _private_memory()
    if taken >= limit:
        raise ValueError(
            f"a worker takes {taken >> 20} MiB before it has loaded a program, and its "
            f"memory_limit is {limit >> 20} MiB: raise that"
        )
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _private_memory() -> int:
    """What RLIMIT_DATA counts: what is mapped and writable, and shared with nobody."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0
