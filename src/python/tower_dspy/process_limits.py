"""Limits that a worker process sets on itself: the life of its parent, and its memory."""

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Has the kernel end this process with its parent, also while code here holds the GIL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(limit: int | None) -> None:
    """Limits the private memory of this process, and of each that it starts, to `limit` bytes."""
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
    """The memory that RLIMIT_DATA counts: mapped, writable and not shared."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0
