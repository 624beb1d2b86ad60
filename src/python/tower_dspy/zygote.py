"""A zygote: a process that has imported DSPy and forks workers, each in milliseconds.

It must have one thread: only the thread that forks exists in the child, and the locks of the others
would stay locked there for ever. It opens no connection and runs no program.

The host sends an order and, with a `fork`, three descriptors: the worker's socket, its stdout and
its stderr. The zygote reports the end of each worker, and does not reap it before the host has
ended the processes that the worker had started and sends `reap`: until then its process id is not
reused.
"""

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

from tower_dspy import process_limits, worker
from tower_dspy.frames import AT_ONCE, Frames, Log

_DESCRIPTORS = 3  # of an order to fork


class _Orders(Frames):
    """Frames with descriptors, which arrive with the first byte of their frame and so in order."""

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(taken)
        self.descriptors: list[int] = []

    def _read(self) -> bytes:
        space = socket.CMSG_LEN(_DESCRIPTORS * array.array("i").itemsize)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        # Not by `socket.recv_fds`, which ignores the flags and would wait.
        data, attached, _, _ = self._socket.recvmsg(AT_ONCE, space, flags)
        for _, _, content in attached:
            self.descriptors += array.array("i", content)
        return data


class _Zygote:
    def __init__(self, orders: _Orders, log: Log, hello: dict[str, Any]) -> None:
        self._orders = orders
        self._log = log
        self._hello = hello
        self._coming = select.poll()
        self._coming.register(orders, select.POLLIN)
        # The number and the process id of each worker, by its pidfd.
        self._workers: dict[int, tuple[int, int]] = {}

    def run(self) -> NoReturn:
        while True:
            for descriptor, _ in self._coming.poll():
                if descriptor in self._workers:
                    self._report_end(descriptor)
                else:
                    self._take_orders()

    def _take_orders(self) -> None:
        for name, body, _ in self._orders.receive():
            if name == "fork":
                attached = self._orders.descriptors[:_DESCRIPTORS]
                del self._orders.descriptors[:_DESCRIPTORS]
                self._fork(body["worker"], attached)
                for descriptor in attached:
                    os.close(descriptor)
            elif name == "reap":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(body["pid"], 0)

    def _fork(self, number: int, descriptors: list[int]) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()  # or each worker would write it as well
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
        with contextlib.suppress(OSError):  # it has ended, or did this itself
            os.setpgid(pid, pid)
        watch = os.pidfd_open(pid)
        self._workers[watch] = (number, pid)
        self._coming.register(watch, select.POLLIN)
        self._orders.send("forked", {"worker": number, "pid": pid})

    def _become_worker(self, zygote: int, descriptors: list[int]) -> NoReturn:
        os.setpgid(0, 0)
        process_limits.end_with_parent(zygote)
        taken, out, err = descriptors
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        # The zygote's own descriptors.
        self._orders.close()
        for watch in self._workers:
            os.close(watch)
        _reseed()
        importlib.invalidate_caches()  # files may be new since
        frames = Frames(socket.socket(fileno=taken))
        self._log.frames = frames
        worker.serve(frames, self._hello, [])

    def _report_end(self, watch: int) -> None:
        number, pid = self._workers.pop(watch)
        self._coming.unregister(watch)
        os.close(watch)
        # Not reaped, so that its process id is not reused.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        exited = end.si_code == os.CLD_EXITED
        self._orders.send("ended", {"worker": number, "exited": exited, "status": end.si_status})


def run(control: socket.socket, hello: dict[str, Any]) -> NoReturn:
    """Runs a zygote."""
    process_limits.end_with_parent(hello["parent"])
    orders = _Orders(control)
    log = Log(orders)
    with worker.exiting_if_unusable(orders):
        warnings = worker.prepare(hello, log)
    reason = _reason_not_to_fork()
    if reason is not None:
        orders.send("cannot_fork", {"reason": reason})
        os._exit(0)
    orders.send("warm", {"weaker": warnings})
    _Zygote(orders, log, hello).run()


def _reason_not_to_fork() -> str | None:
    """Why this process must not fork, or cannot observe the end of its children."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"importing DSPy has left {threads - 1} threads running"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return f"the system has no pidfd_open ({error})"
    return None


def _reseed() -> None:
    """Seeds the random generators anew, or all workers would draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
