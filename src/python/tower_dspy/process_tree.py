"""A process with its descendants and its process group, each signalled by its pidfd.

A process id is reused once its process has been reaped. A pidfd refers to one process for ever. A
process id that was read in /proc therefore counts only with a pidfd that was opened before the read
and whose process runs after it: that process has had the id all the time.
"""

import contextlib
import math
import os
import select
import signal
import time

# How often the tree is looked up for one signal, as processes may be forked meanwhile.
_ROUNDS = 5
_LONGEST_POLL = 86_400.0  # seconds; in milliseconds it is a C int


class Process:
    """One process, by its pidfd."""

    def __init__(self, pid: int) -> None:
        """Opens the process that has this id now; raises `OSError` if there is none."""
        self._pidfd = -1
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def __del__(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def fileno(self) -> int:
        """The pidfd, which is readable once the process has ended."""
        return self._pidfd

    def runs(self) -> bool:
        """Whether the process has not ended."""
        return not _wait_for_any([self], 0)

    def send(self, number: int) -> None:
        """Sends the process a signal."""
        # It has ended, or may be signalled by another user alone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._pidfd, number)


class ProcessTree:
    """A process, its descendants, and the members of the process groups that these lead."""

    def __init__(self, root: Process) -> None:
        self._processes = {root.pid: root}

    def runs(self) -> bool:
        """Whether a process of the tree has not ended."""
        self._processes = {pid: one for pid, one in self._processes.items() if one.runs()}
        return bool(self._processes)

    def send(self, number: int) -> None:
        """Sends each process of the tree a signal, those among them that are being forked."""
        # Stopped first: a process that is forked by one that ends is not found any more.
        stopped: list[Process] = []
        for _ in range(_ROUNDS):
            running = [process for process in self._find() if process not in stopped]
            if not running:
                break
            for process in running:
                process.send(signal.SIGSTOP)
            stopped += running
        for sent in (number, signal.SIGCONT):
            for process in stopped:
                process.send(sent)

    def kill_known(self) -> None:
        """Kills the processes that were found so far, from any thread."""
        for process in list(self._processes.values()):
            process.send(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Waits until all processes of the tree have ended; returns whether they have."""
        end = time.monotonic() + seconds
        while self.runs():
            left = end - time.monotonic()
            if left <= 0:
                return False
            _wait_for_any(list(self._processes.values()), left)
        return True

    def _find(self) -> list[Process]:
        """The processes of the tree that run, with the ones that it has got since."""
        for pid in _all_pids():
            if pid not in self._processes or not self._processes[pid].runs():
                self._add_if_related(pid)
        self.runs()
        return list(self._processes.values())

    def _add_if_related(self, pid: int) -> None:
        relatives = _parent_and_group(pid)  # a first look, which costs no descriptor
        if not any(relative in self._processes for relative in relatives):
            return
        with contextlib.suppress(OSError):
            process = Process(pid)
            for relative in _parent_and_group(pid):
                known = self._processes.get(relative)
                if known is not None and known.runs() and process.runs():
                    self._processes[pid] = process


def _wait_for_any(processes: list[Process], seconds: float) -> bool:
    """Waits until one of the processes has ended; returns whether one has."""
    poll = select.poll()
    for process in processes:
        poll.register(process, select.POLLIN)
    # Rounded up: a shorter wait than was asked for would end in a busy loop.
    return bool(poll.poll(math.ceil(min(seconds, _LONGEST_POLL) * 1000)))


def _all_pids() -> list[int]:
    """The ids of all processes, in the order in which they were started, but for a wrap-around."""
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    except OSError:  # no descriptor is left
        return []


def _parent_and_group(pid: int) -> tuple[int, ...]:
    """The parent's process id and the process group of a process; nothing if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # After the name, which may hold any byte: state, parent, group.
            fields = stat.read().rpartition(b")")[2].split()
            return int(fields[1]), int(fields[2])
    except OSError:
        return ()
