import contextlib
import os
import socket
import threading
import time
from multiprocessing import Pipe
from typing import Any

import pytest
from blocked import LONG, ClientOfC, blocked, c_recv, ends, syscall, until
from conftest import running

from tower_dspy import thread_signal
from tower_dspy.call_state import Cancelled
from tower_dspy.wait_end import end_waits


@pytest.mark.parametrize("pair", [socket.socketpair, Pipe])
def test_a_wait_of_c_code_for_the_descriptor_of_another_is_left_alone(pair, connect):
    """The descriptor was closed under the waiting thread, and is another's by now."""
    descriptor = connect().detach()
    pairs: list[Any] = []
    with blocked(lambda: c_recv(descriptor)) as run:
        old = os.dup(descriptor)
        os.close(descriptor)
        while not pairs or descriptor not in (one.fileno() for one in pairs[-1]):
            pairs.append(pair())
        assert run.interrupt()
        for _ in range(5):
            end_waits()
        assert run._running
        for one in pairs[-1]:
            os.write(one.fileno(), b"alive")
        assert thread_signal.PENDING[run._thread].is_pending()
        socket.socket(fileno=old).shutdown(socket.SHUT_RDWR)
    assert isinstance(run.error, Cancelled | None)


def test_a_socket_closed_under_its_waiting_thread_leaves_its_successor_alone(connect):
    waiting = connect()
    peers: list[socket.socket] = []
    with blocked(lambda: waiting.recv(1)) as run:
        descriptor, old = waiting.fileno(), os.dup(waiting.fileno())
        waiting.close()
        while not peers or peers[-1].fileno() != descriptor:
            peers.append(connect())
        assert run.interrupt()
        for _ in range(5):
            end_waits()
        assert run._running
        peers[-1].send(b"alive")
        socket.socket(fileno=old).shutdown(socket.SHUT_RDWR)


def test_a_socket_closed_between_the_look_and_the_shutdown_is_not_shut_down(connect, monkeypatch):
    waiting = connect()
    dup, peers, olds = os.dup, [], []

    def dup_late(descriptor: int) -> int:
        if not olds:
            olds.append(dup(descriptor))
            waiting.close()
            while not peers or peers[-1].fileno() != descriptor:
                peers.append(connect())
        return dup(descriptor)

    with blocked(lambda: waiting.recv(1)) as run:
        monkeypatch.setattr(os, "dup", dup_late)
        assert run.interrupt()
        end_waits()
        assert olds and run._running
        peers[-1].send(b"alive")
        socket.socket(fileno=olds[0]).shutdown(socket.SHUT_RDWR)


def test_a_wait_that_ends_between_the_look_and_the_shutdown_is_left_alone(connect, monkeypatch):
    """It was the thread's own; what the thread does with the socket by now is its clean-up."""
    ours, theirs = socket.socketpair()
    dup, ended = os.dup, threading.Event()

    def function() -> None:
        try:
            ours.recv(1)
        finally:
            ended.set()
            ours.send(b"clean-up")

    def dup_late(descriptor: int) -> int:
        theirs.send(b"1")
        assert ended.wait(LONG)
        return dup(descriptor)

    with blocked(function) as run:
        monkeypatch.setattr(os, "dup", dup_late)
        assert run.interrupt()
    assert isinstance(run.error, Cancelled)
    assert theirs.recv(100) == b"clean-up"
    ours.send(b"alive")


def send(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.send(b"1")


def test_a_run_that_ends_meanwhile_leaves_nothing_pending(connect):
    for _ in range(50):
        ours, theirs = socket.socketpair()
        with running(lambda ours=ours: ours.recv(1)) as run:
            until(lambda run=run: syscall(run) not in ("", "running"))
            sending = threading.Thread(target=send, args=(theirs,))
            sending.start()
            run.interrupt()
            end_waits()
            sending.join()
        assert isinstance(run.error, Cancelled) or run.value == b"1"
        assert not thread_signal.PENDING


def test_an_error_of_the_ended_wait_is_the_runs_cancellation(connect):
    def function() -> None:
        with connect() as connection:
            # Its error comes before the signal.
            connection.sendall(bytes(100 << 20))

    assert type(ends(function).error) in (Cancelled, thread_signal.Interrupted)


def test_the_sockets_of_other_threads_are_never_shut_down(connect):
    """A thread opens and closes sockets all the time while those of others are shut down."""
    stop, broken, count = threading.Event(), [], [0]

    def opens_and_closes() -> None:
        while not stop.is_set():
            ours, theirs = socket.socketpair()
            try:
                ours.send(b"1")
                if theirs.recv(1) != b"1":
                    broken.append("the end of a stream")
            except OSError as error:
                broken.append(error)
            ours.close()
            theirs.close()
            count[0] += 1

    others = [threading.Thread(target=opens_and_closes) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for n in range(40):
            waiting = connect()
            client = ClientOfC.of(connect()) if n % 2 else None
            waits = (
                (lambda client=client: c_recv(client.fileno()))
                if client
                else (lambda waiting=waiting: waiting.recv(1))
            )
            with running(waits) as run:
                assert until(lambda run=run: syscall(run).startswith(("45 ", "207 ")))
                if n % 4 == 0:
                    # Under the waiting thread: its number is another's at once.
                    old = os.dup(waiting.fileno())
                    waiting.close()
                run.interrupt()
                for _ in range(10):
                    end_waits()
                    time.sleep(0.001)
                if n % 4 == 0:
                    socket.socket(fileno=old).shutdown(socket.SHUT_RDWR)
                until(lambda run=run: end_waits() or not run._running)
            if client:
                os.close(client.fileno())
            waiting.close()
    finally:
        stop.set()
        for other in others:
            other.join(LONG)
    assert broken == [] and count[0] > 100
