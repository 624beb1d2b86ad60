import asyncio
import concurrent.futures
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import pytest
from blocked import (
    LONG,
    blocked,
    ends,
    is_blocked,
    stays,
    until,
)
from conftest import running

from tower_dspy import wait_end
from tower_dspy.call_state import Cancelled
from tower_dspy.wait_end import end_waits


def waits_of_threading() -> dict[str, Callable[[], Any]]:
    def as_completed() -> None:
        list(concurrent.futures.as_completed([concurrent.futures.Future()]))

    return {
        "event": threading.Event().wait,
        "event with a limit": lambda: threading.Event().wait(LONG),
        "semaphore": threading.Semaphore(0).acquire,
        "barrier": threading.Barrier(2).wait,
        "queue": queue.Queue().get,
        "queue with a limit": lambda: queue.Queue().get(timeout=LONG),
        "future": concurrent.futures.Future().result,
        "futures": lambda: concurrent.futures.wait([concurrent.futures.Future()]),
        "as_completed": as_completed,
        "sleep": lambda: time.sleep(LONG),
    }


@pytest.mark.parametrize("name", waits_of_threading())
def test_a_wait_of_threading_and_a_sleep_are_ended(name):
    ends(waits_of_threading()[name])


def test_a_sleep_on_a_thread_without_the_context_of_its_call_is_ended():
    with running(lambda: time.sleep(LONG)) as run:
        assert until(lambda: is_blocked(run))
        assert run.interrupt()
    assert isinstance(run.error, Cancelled)


def test_a_selector_and_a_loop_are_woken_without_their_sockets(connect):
    connection = connect()

    def selects() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.select()

    ends(selects)
    cleaned = []

    async def sleeps() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    open_before = set(os.listdir("/proc/self/fd"))
    ends(lambda: asyncio.run(sleeps()))
    assert cleaned == [True]
    assert set(os.listdir("/proc/self/fd")) <= open_before
    connection.send(b"alive")


def test_the_waits_of_clean_up_code_are_not_ended(connect):
    cleaning, go_on, said = threading.Event(), threading.Event(), []

    def function() -> None:
        try:
            threading.Event().wait()
        finally:
            cleaning.set()
            go_on.wait(LONG)
            said.append(go_on.is_set())
            start = time.monotonic()
            time.sleep(0.1)
            said.append(time.monotonic() - start >= 0.1)
            with connect() as connection:
                connection.settimeout(0.1)
                try:
                    connection.recv(1)
                except TimeoutError:
                    said.append(True)

    with blocked(function) as run:
        assert run.interrupt()
        assert cleaning.wait(LONG)
        for _ in range(20):
            end_waits()
            time.sleep(0.002)
        go_on.set()
    assert said == [True, True, True]
    assert isinstance(run.error, Cancelled)


def test_a_wait_at_the_same_instruction_after_the_signal_is_not_ended():
    first, second = socket.socketpair(), socket.socketpair()
    caught, received = threading.Event(), []

    def function() -> None:
        for ours, _ in (first, second):
            try:
                received.append(ours.recv(10))
            except BaseException:
                caught.set()

    with blocked(function) as run:
        assert run.interrupt()
        assert caught.wait(LONG) and until(lambda: is_blocked(run))
        for _ in range(10):
            end_waits()
        second[1].send(b"alive")
    assert received == [b"alive"] and run.error is None


def test_a_second_interrupt_ends_the_wait_of_the_clean_up():
    cleaning = threading.Event()

    def function() -> None:
        try:
            threading.Event().wait()
        finally:
            cleaning.set()
            threading.Event().wait()

    with blocked(function) as run:
        run.interrupt()
        assert cleaning.wait(LONG) and until(lambda: is_blocked(run))
        end_waits()
        assert run._running
        assert run.interrupt_again()
    assert isinstance(run.error, Cancelled)


def test_an_ended_wait_takes_no_notification_from_another():
    condition, woken = threading.Condition(), []

    def wait() -> None:
        with condition:
            woken.append(condition.wait(LONG))

    with blocked(wait) as first, running(wait) as second:
        assert until(lambda: is_blocked(second))
        with condition:
            # The first one's wait is ended, and it comes to its lock after the notification.
            assert first.interrupt()
            condition.notify()
    assert isinstance(first.error, Cancelled)
    assert woken == [True] and second.error is None


def test_what_cannot_be_ended_safely_is_left_alone():
    lock = threading.Lock()
    lock.acquire()
    stays(lock.acquire, lock.release)
    owned, give_up = threading.RLock(), threading.Event()

    def holds() -> None:
        with owned:
            give_up.wait(LONG)

    holder = threading.Thread(target=holds)
    holder.start()
    stays(owned.acquire, give_up.set)
    simple: queue.SimpleQueue[int] = queue.SimpleQueue()
    stays(simple.get, lambda: simple.put(1))
    go_on = threading.Event()
    other = threading.Thread(target=go_on.wait, daemon=True)
    other.start()
    stays(other.join, go_on.set)
    reader, writer = os.pipe()
    stays(lambda: os.read(reader, 1), lambda: os.close(writer))
    os.close(reader)
    receives, sender = Pipe(duplex=False)
    stays(receives.recv_bytes, lambda: sender.send_bytes(b"1"))


def test_nothing_is_ended_outside_a_run(connect):
    ours, theirs = socket.socketpair()
    received = []
    other = threading.Thread(target=lambda: received.append(ours.recv(10)))
    other.start()
    wait_end.end_waits()
    theirs.send(b"alive")
    other.join(LONG)
    assert received == [b"alive"]
