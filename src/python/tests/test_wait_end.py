import asyncio
import concurrent.futures
import contextlib
import ctypes
import http.client
import os
import queue
import select
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any

import pytest
from conftest import in_call, running

from tower_dspy import blocked_thread, thread_signal, wait_end
from tower_dspy.call_state import Cancelled
from tower_dspy.interrupt import InterruptibleRun
from tower_dspy.wait_end import end_waits

LONG = 30  # seconds: no wait here ends by itself


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server


@pytest.fixture
def connect(server: socket.socket) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        return socket.create_connection(server.getsockname())

    return connect


def until(condition: Callable[[], Any], seconds: float = LONG) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.002)
    return bool(met)


def is_blocked(run: InterruptibleRun) -> bool:
    """Whether the thread is in a system call, and does not wait for the GIL."""
    before = syscall(run)
    if before in ("", "running"):
        return False
    time.sleep(0.02)
    return syscall(run) == before


def syscall(run: InterruptibleRun) -> str:
    if not run._native_id:
        return ""
    with open(f"/proc/self/task/{run._native_id}/syscall") as file:
        return file.read().strip()


@contextlib.contextmanager
def blocked(function: Callable[[], Any]) -> Iterator[InterruptibleRun]:
    """Runs a function of a call on a thread until it waits; then the block; then to its end."""

    def function_of_a_call() -> Any:
        with in_call():
            return function()

    with running(function_of_a_call) as run:
        assert until(lambda: is_blocked(run))
        yield run
        # As the watchdog does.
        until(lambda: end_waits() or not run._running)


def ends(function: Callable[[], Any]) -> InterruptibleRun:
    with blocked(function) as run:
        assert run.interrupt()
    assert isinstance(run.error, Cancelled), run.error
    assert run._thread not in thread_signal.PENDING
    return run


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


def with_limit(connection: socket.socket) -> socket.socket:
    connection.settimeout(LONG)
    return connection


def selects(connection: socket.socket) -> None:
    select.select([connection], [], [], LONG)


def polls(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection)
    poll.modify(connection, select.POLLIN)
    poll.poll(LONG * 1000)


def selects_by_poll(connection: socket.socket) -> None:
    with selectors.PollSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.select(LONG)


def sends(connection: socket.socket) -> None:
    connection.sendall(bytes(100 << 20))


def reads_a_file(connection: socket.socket) -> None:
    with connection.makefile("rb") as file:
        file.readline()


WAITS_OF_SOCKETS = {
    "recv": lambda connection: connection.recv(1),
    "recv_into": lambda connection: connection.recv_into(bytearray(1)),
    "recvmsg": lambda connection: connection.recvmsg(1),
    "recv with a limit": lambda connection: with_limit(connection).recv(1),
    "sendall": sends,
    "sendall with a limit": lambda connection: sends(with_limit(connection)),
    "makefile": reads_a_file,
    "select": selects,
    "poll": polls,
    "PollSelector": selects_by_poll,
}


@pytest.mark.parametrize("name", WAITS_OF_SOCKETS)
def test_a_wait_for_a_socket_is_ended(name, connect):
    def function() -> None:
        with connect() as connection:
            WAITS_OF_SOCKETS[name](connection)

    ends(function)


def test_a_wait_of_an_attribute_is_ended(connect):
    class Client:
        def __init__(self) -> None:
            self.socket = connect()

        def ask(self) -> bytes:
            return self.socket.recv(1)

    ends(Client().ask)


def test_accept_and_connect_and_datagrams_are_ended():
    def accepts() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.accept()

    def receives() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            datagrams.recv(1)

    ends(accepts)
    ends(receives)
    # A queue of one, which is full: the kernel drops the next one's packets.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(2):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())

        def connects() -> None:
            with socket.socket() as late:
                late.connect(full.getsockname())

        ends(connects)


@pytest.mark.parametrize("limit", [None, LONG])
def test_an_http_request_is_ended(limit, server):
    def function() -> None:
        client = http.client.HTTPConnection(*server.getsockname(), timeout=limit)
        client.request("GET", "/")
        client.getresponse()

    ends(function)


@pytest.fixture
def certificate(tmp_path) -> str:
    path = str(tmp_path / "both.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-keyout", path, "-out", f"{path}.crt", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.mark.parametrize("limit", [None, LONG])
def test_a_read_and_a_handshake_of_ssl_are_ended(limit, server, certificate):
    context = ssl.create_default_context(cafile=f"{certificate}.crt")

    def handshakes() -> None:
        with socket.create_connection(server.getsockname(), limit) as plain:
            context.wrap_socket(plain, server_hostname="localhost")

    ends(handshakes)
    accepting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    accepting.load_cert_chain(f"{certificate}.crt", certificate)
    server.accept()[0].close()  # that of the handshake

    def reads() -> None:
        with (
            socket.create_connection(server.getsockname(), limit) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.recv(1)

    def serves() -> None:
        peer = accepting.wrap_socket(server.accept()[0], server_side=True)
        with peer, contextlib.suppress(OSError):
            peer.recv(1)

    serving = threading.Thread(target=serves)
    serving.start()
    ends(reads)
    serving.join(LONG)
    assert not serving.is_alive()


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


def c_recv(descriptor: int) -> int:
    """A wait of a library in C, of which Python knows no more than the number."""
    return ctypes.CDLL(None).recv(descriptor, ctypes.create_string_buffer(1), 1, 0)


def c_poll(descriptor: int) -> int:
    array = (ctypes.c_int * 2)(descriptor, select.POLLIN)
    return ctypes.CDLL(None).poll(array, ctypes.c_ulong(1), LONG * 1000)


@pytest.mark.parametrize("wait", [c_recv, c_poll])
def test_a_wait_of_c_code_for_its_own_socket_is_ended(wait, connect):
    descriptor = connect().detach()
    try:
        ends(lambda: wait(descriptor))
    finally:
        os.close(descriptor)


def test_a_wait_of_c_code_for_the_socket_of_another_is_left_alone(connect):
    """The descriptor was closed under the waiting thread, and is another's by now."""
    descriptor = connect().detach()
    peers: list[socket.socket] = []
    with blocked(lambda: c_recv(descriptor)) as run:
        old = os.dup(descriptor)
        os.close(descriptor)
        while not peers or peers[-1].fileno() != descriptor:
            peers.append(connect())
        assert run.interrupt()
        for _ in range(5):
            end_waits()
        assert run._running
        peers[-1].send(b"alive")
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


def test_an_error_of_the_ended_wait_is_the_runs_cancellation():
    def function() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            # Its error comes before the signal.
            server.accept()

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
            raw = connect().detach() if n % 2 else -1
            waits = (lambda raw=raw: c_recv(raw)) if n % 2 else lambda w=waiting: w.recv(1)
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
            if raw >= 0:
                os.close(raw)
            waiting.close()
    finally:
        stop.set()
        for other in others:
            other.join(LONG)
    assert broken == [] and count[0] > 100


def stays(function: Callable[[], Any], release: Callable[[], Any]) -> None:
    with blocked(function) as run:
        assert run.interrupt()
        for _ in range(5):
            end_waits()
            time.sleep(0.01)
        assert run._running
        release()
    assert isinstance(run.error, Cancelled | None), run.error


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


def test_without_proc_what_needs_it_is_left_alone_and_said_once(connect, monkeypatch, caplog):
    def unreadable(path: str) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(blocked_thread, "_read", unreadable)
    monkeypatch.setattr(blocked_thread, "_warned", False)
    ours, theirs = socket.socketpair()
    stays(lambda: ours.recv(1), lambda: theirs.send(b"1"))
    said = [record.message for record in caplog.records if "/proc" in record.message]
    assert len(said) == 1
    # These need none.
    ends(lambda: time.sleep(LONG))


def test_nothing_is_ended_outside_a_run(connect):
    ours, theirs = socket.socketpair()
    received = []
    other = threading.Thread(target=lambda: received.append(ours.recv(10)))
    other.start()
    wait_end.end_waits()
    theirs.send(b"alive")
    other.join(LONG)
    assert received == [b"alive"]
