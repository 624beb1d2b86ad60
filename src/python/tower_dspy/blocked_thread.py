"""The system call that a thread of this process waits in, and the descriptors that it waits for.

Linux shows it in `/proc/self/task/<thread>/syscall`: the number of the call and its arguments, or
`running`. The descriptors of `poll` and `select` are read from the memory of the process by
`/proc/self/mem`, which fails, where a pointer would crash, if the memory is there no more.
"""

import logging
import os
import platform
import struct
import threading
from dataclasses import dataclass

_log = logging.getLogger("tower_dspy.startup")

_DIRECT, _POLL, _SELECT, _EPOLL = "direct", "poll", "select", "epoll"
# Numbers of the calls that may wait for a descriptor: first those whose first argument it is.
_NUMBERS = {
    "x86_64": {
        # read, write, readv, writev, sendfile, connect, accept, sendto, recvfrom, sendmsg,
        # recvmsg, accept4, recvmmsg, sendmmsg
        _DIRECT: (0, 1, 19, 20, 40, 42, 43, 44, 45, 46, 47, 288, 299, 307),
        _POLL: (7, 271),
        _SELECT: (23, 270),
        _EPOLL: (232, 281, 441),
    },
    "aarch64": {
        _DIRECT: (63, 64, 65, 66, 71, 203, 202, 206, 207, 211, 212, 242, 243, 269),
        _POLL: (73,),
        _SELECT: (72,),
        _EPOLL: (22, 441),
    },
}
_KINDS = {
    number: kind
    for kind, numbers in _NUMBERS.get(platform.machine(), {}).items()
    for number in numbers
}
_MOST_POLLED = 1024
# Bytes of a file: the groups of a user, which come before the counts, may be thousands.
_MOST_READ = 1 << 16
_POLLED = struct.Struct("iHH")
_warned = False


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """A system call that a thread waits in. Equal ones of a thread are one and the same wait."""

    # The call and its arguments, as Linux shows them.
    call: str
    # How often the thread has waited and was preempted: it has not run since if these are the same.
    switches: tuple[str, ...]
    descriptors: tuple[int, ...]
    is_epoll: bool


def blocked_call(native_id: int) -> BlockedCall | None:
    """The call that a thread waits in for descriptors; None if it does not, or cannot be seen."""
    task = f"/proc/self/task/{native_id}"
    try:
        # Before the call: a wait that begins in between has other numbers later.
        switches = _switches(task)
        call = _read(f"{task}/syscall")
        number, *arguments = call.split()
        kind = _KINDS.get(int(number)) if number.isdigit() else None
        if kind is None:
            return None
        first, *others = (int(argument, 16) for argument in arguments)
        if kind == _POLL:
            descriptors = _polled(first, others[0])
        elif kind == _SELECT:
            descriptors = _selected(first, others[:3])
        else:
            descriptors = (first & 0xFFFFFFFF,)
    except (OSError, ValueError, IndexError):
        _warn_if_unreadable()
        return None
    return BlockedCall(call, switches, descriptors, kind == _EPOLL)


def _switches(task: str) -> tuple[str, ...]:
    lines = _read(f"{task}/status").splitlines()
    found = tuple(line for line in lines if "ctxt_switches" in line)
    if len(found) != 2:
        raise ValueError("no counts of context switches")
    return found


def _polled(array: int, count: int) -> tuple[int, ...]:
    data = _memory(array, min(count, _MOST_POLLED) * _POLLED.size)
    return tuple(fd for fd, _, _ in _POLLED.iter_unpack(data) if fd >= 0)


def _selected(count: int, sets: list[int]) -> tuple[int, ...]:
    count = min(count, _MOST_POLLED)
    found = set()
    for pointer in filter(None, sets):
        # The kernel writes the answer there only when the call returns.
        bits = int.from_bytes(_memory(pointer, (count + 63) // 64 * 8), "little")
        found |= {fd for fd in range(count) if bits >> fd & 1}
    return tuple(sorted(found))


def _memory(address: int, size: int) -> bytes:
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, size, address)
    finally:
        os.close(memory)
    if len(data) < size:
        raise ValueError("the memory ends before the array")
    return data


def _read(path: str) -> str:
    # Without the layers of `open`, which take three times as long.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_READ).decode("ascii", "replace")
    finally:
        os.close(file)


def _warn_if_unreadable() -> None:
    """Says once if nothing can be seen here; else the thread has just ended."""
    global _warned
    if _warned:
        return
    try:
        _read(f"/proc/self/task/{threading.get_native_id()}/syscall")
    except OSError as error:
        _warned = True
        _log.warning(
            "/proc shows no system calls (%s): threads that wait for sockets are not ended", error
        )
