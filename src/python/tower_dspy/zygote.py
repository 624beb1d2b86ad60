"""A process that has imported DSPy and forks workers: each costs milliseconds, and no import.

It has one thread, or it refuses: of threads only the one that forks goes on in the child, and what
the others had locked stays locked there for ever. It opens no connection and runs no program.

The host sends an order and, with a `fork`, three descriptors: the worker's socket, its stdout and
its stderr. The zygote tells of the end of each worker, and keeps its process id from being given to
another until the host has ended what that worker had started and says `reap`.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import os
import random
import select
import socket
import sys
import traceback
from typing import Any, NoReturn

from tower_dspy import faults, system, worker
from tower_dspy.frames import Frames, Log

_DESCRIPTORS = 3  # of an order to fork
_AT_ONCE = 1 << 16


class _Orders(Frames):
    """Frames with descriptors, which come with the first byte of theirs and so in its order."""

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(taken)
        self.descriptors: list[int] = []
        # The host is gone, or has no more orders; those that came before are carried out.
        self.over = False

    def _fill(self) -> bool:
        room = socket.CMSG_LEN(_DESCRIPTORS * array.array("i").itemsize)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        data = b""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                data, attached, _, _ = self._socket.recvmsg(_AT_ONCE, room, flags)
            except ConnectionError:
                os._exit(1)
            self.over = not data
            for _, _, content in attached:
                self.descriptors += array.array("i", content)
            self._received += data
        # One call ends at the descriptors of the next frame.
        return bool(data)


class _Zygote:
    def __init__(self, orders: _Orders, log: Log, hello: dict[str, Any]) -> None:
        self._orders = orders
        self._log = log
        self._hello = hello
        self._coming = select.poll()
        self._coming.register(orders, select.POLLIN)
        # By the descriptor that turns readable when it ends: the worker's number and process id.
        self._living: dict[int, tuple[int, int]] = {}

    def run(self) -> NoReturn:
        while True:
            for descriptor, _ in self._coming.poll():
                if descriptor in self._living:
                    self._ended(descriptor)
                else:
                    self._obey()

    def _obey(self) -> None:
        for name, body, _ in self._orders.receive():
            if name == "fork":
                mine = self._orders.descriptors[:_DESCRIPTORS]
                del self._orders.descriptors[:_DESCRIPTORS]
                self._fork(body["worker"], mine)
                for descriptor in mine:
                    os.close(descriptor)
            elif name == "reap":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(body["pid"], 0)
        if self._orders.over:
            os._exit(0)

    def _fork(self, number: int, descriptors: list[int]) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()  # else each worker would write it as well
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._orders.send("not_forked", {"worker": number, "reason": str(error)})
            return
        if pid == 0:
            try:
                self._become_worker(zygote, descriptors)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        with contextlib.suppress(OSError):  # it has ended, or done so itself
            os.setpgid(pid, pid)
        watch = os.pidfd_open(pid)
        self._living[watch] = (number, pid)
        self._coming.register(watch, select.POLLIN)
        self._orders.send("forked", {"worker": number, "pid": pid})

    def _become_worker(self, zygote: int, descriptors: list[int]) -> NoReturn:
        os.setpgid(0, 0)
        system.die_with(zygote)
        taken, out, err = descriptors
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        # The zygote's own: here they would only keep open what others have closed.
        self._orders.close()
        for watch in self._living:
            os.close(watch)
        _reseed()
        importlib.invalidate_caches()  # what has come into the folders since is to be found
        frames = Frames(socket.socket(fileno=taken))
        self._log.frames = frames
        worker.serve(frames, self._hello, [])

    def _ended(self, watch: int) -> None:
        number, pid = self._living.pop(watch)
        self._coming.unregister(watch)
        os.close(watch)
        # It is left to be waited for, so that nothing else gets its id.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        by_itself = end is not None and end.si_code == os.CLD_EXITED
        status = 0 if end is None else end.si_status
        self._orders.send("ended", {"worker": number, "exited": by_itself, "status": status})


def run(control: socket.socket, hello: dict[str, Any]) -> NoReturn:
    """The life of a zygote."""
    system.die_with(hello["parent"])
    orders = _Orders(control)
    log = Log(orders)
    try:
        weaker = worker.prepare(hello, log)
        _import_the_rest()
    except BaseException as error:
        orders.send("unusable", {"fault": faults.describe(error)})
        os._exit(1)
    why_not = _why_not()
    if why_not is not None:
        orders.send("cannot_fork", {"reason": why_not})
        os._exit(0)
    orders.send("warm", {"weaker": weaker})
    _Zygote(orders, log, hello).run()


def _import_the_rest() -> None:
    """What a worker imports as it begins."""
    import anyio.to_thread  # noqa: F401

    import tower_dspy.runner
    import tower_dspy.watchdog  # noqa: F401


def _why_not() -> str | None:
    """Why this process must not fork, or cannot tell of the end of what it forks."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"importing DSPy has left {threads - 1} threads running"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return f"the system has no pidfd_open ({error})"
    return None


def _reseed() -> None:
    """Workers must not draw the same numbers. `random` sees to itself, and so does OpenSSL."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
