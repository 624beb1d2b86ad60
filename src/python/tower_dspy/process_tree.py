"""A process with its descendants and its process group, each signalled by its pidfd.

A process id is reused once its process has been reaped. A pidfd refers to one process for ever. A
process id that was read in /proc therefore counts only with a pidfd that was opened before the read
and whose process runs after it: that process has had the id all the time.
"""

import contextlib
import errno
import itertools
import math
import os
import select
import signal
import time

# How often the tree is looked up for one signal, as processes may be forked meanwhile.
_ROUNDS = 5
# Seconds until a process has stopped, at most, and between two looks.
_STOP_LIMIT, _LOOK = 0.5, 0.0005
_LONGEST_POLL = 86_400.0  # seconds; in milliseconds it is a C int
_PROCESS_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP
# Linux may be built without it. Else all processes are looked at.
_HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


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

    def has_id_of_group(self) -> bool:
        """Whether its id is still that of the process group that it led, also after its end.

        Linux before 6.9 does not say so of a process that was reaped: there it is taken for true
        as long as no process has the id.
        """
        for flags in (_PROCESS_GROUP, 0):
            try:
                signal.pidfd_send_signal(self._pidfd, 0, None, flags)
            except PermissionError:
                return True
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return flags == 0 and not os.path.exists(f"/proc/{self.pid}")
            else:
                return True
        return False


class ProcessTree:
    """A process, its descendants, and the members of the process groups that these lead."""

    def __init__(self, root: Process) -> None:
        """The tree of a process that was not reaped yet."""
        self._root = root
        self._processes = {root.pid: root}
        # Its group is known by it after its end as well.
        self._leads_group = _leads_group(root.pid)

    def runs(self) -> bool:
        """Whether a process of the tree has not ended."""
        self._drop_ended()
        if not self._processes and self._leads_group and self._root.has_id_of_group():
            self._find()
        return bool(self._processes)

    def send(self, number: int) -> None:
        """Sends each process of the tree a signal, those among them that are being forked."""
        # Stopped first: the children of a process that has ended are not found. If this process is
        # killed during the look-up, the stopped processes stay stopped.
        stopped: list[Process] = []
        try:
            for _ in range(_ROUNDS):
                running = [process for process in self._find() if process not in stopped]
                if not running:
                    break
                for process in running:
                    process.send(signal.SIGSTOP)
                stopped += running
                # Until it has stopped, a process may still fork.
                end = time.monotonic() + _STOP_LIMIT
                while any(map(_goes_on, running)) and time.monotonic() < end:
                    time.sleep(_LOOK)
        finally:
            for process in stopped:
                process.send(number)
                process.send(signal.SIGCONT)

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
        self._drop_ended()
        # The children of the ones that are found as well.
        looked_at: set[int] = set()
        while _HAS_CHILDREN and (new := set(self._processes) - looked_at):
            looked_at |= new
            for child in itertools.chain.from_iterable(map(_children, new)):
                self._add_if_related(child)
        # Of the members of a group there is no list.
        if not _HAS_CHILDREN or self._leads_group or any(map(_leads_group, self._processes)):
            for pid in _all_pids():
                self._add_if_related(pid)
        self._drop_ended()
        return list(self._processes.values())

    def _drop_ended(self) -> None:
        for pid, process in list(self._processes.items()):
            if not process.runs():
                self._processes.pop(pid, None)

    def _add_if_related(self, pid: int) -> None:
        # A first look, which costs no descriptor.
        if pid in self._processes or not self._is_related(pid):
            return
        with contextlib.suppress(OSError):
            process = Process(pid)
            if self._is_related(pid) and process.runs():
                self._processes[pid] = process

    def _is_related(self, pid: int) -> bool:
        relatives = _parent_and_group(pid)
        known = [self._processes[one] for one in relatives if one in self._processes]
        if any(process.runs() for process in known):
            return True
        in_group = self._leads_group and relatives[1:] == (self._root.pid,)
        return in_group and self._root.has_id_of_group()


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


def _children(pid: int) -> list[int]:
    """The ids of the children of a process; those that are being forked may be missing."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as children:
                found += map(int, children.readall().split())
    return found


def _goes_on(process: Process) -> bool:
    """Whether a process runs, or waits for an event: it has not stopped yet, nor ended."""
    return _stat(process.pid)[:1] in ([b"R"], [b"S"])


def _leads_group(pid: int) -> bool:
    return _parent_and_group(pid)[1:] == (pid,)


def _parent_and_group(pid: int) -> tuple[int, ...]:
    """The parent's process id and the process group of a process; nothing if it is not there."""
    return tuple(map(int, _stat(pid)[1:3]))


def _stat(pid: int) -> list[bytes]:
    """The state of a process, its parent, its group and so on; nothing if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            # After the name, which may hold any byte.
            return stat.readall().rpartition(b")")[2].split()
    except OSError:
        return []
