import contextlib
import datetime
import http.client
import io
import os
import select
import selectors
import socket
import ssl
import subprocess
import threading
import time
from multiprocessing import Pipe

import pytest
from blocked import LONG, ClientOfC, c_poll, c_recv, ends, stays

from tower_dspy import blocked_thread, wait_end


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


def test_connect_and_datagrams_are_ended():
    def receives() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            datagrams.recv(1)

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


@pytest.mark.parametrize("wait", [c_recv, c_poll])
def test_a_wait_of_a_client_in_c_is_ended(wait, connect):
    client = ClientOfC.of(connect())
    try:
        ends(lambda: wait(client.fileno()))
    finally:
        os.close(client.fileno())


@pytest.mark.parametrize("wait", [c_recv, c_poll])
def test_a_wait_of_c_code_for_a_socket_that_no_object_has_is_left_alone(wait):
    ours, theirs = socket.socketpair()
    descriptor = ours.detach()
    stays(lambda: wait(descriptor), lambda: theirs.send(b"1"))
    assert os.read(descriptor, 1) == b"1" if wait is c_poll else theirs.send(b"1")
    os.close(descriptor)


def test_a_file_and_a_pipe_over_a_socket_are_left_alone():
    """As the output of the process where a service manager reads it."""
    ours, theirs = socket.socketpair()
    with open(ours.detach(), "wb", buffering=0) as file:
        size = 10 << 20
        stays(lambda: file.write(bytes(size)), lambda: theirs.recv(size, socket.MSG_WAITALL))
        assert file.write(b"alive") == 5
    receives, sender = Pipe()
    stays(receives.recv_bytes, lambda: sender.send_bytes(b"1"))
    sender.send_bytes(b"alive")


def test_standard_output_is_left_alone(monkeypatch):
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(wait_end, "_STANDARD", (ours.fileno(),))
    stays(lambda: ours.recv(1), lambda: theirs.send(b"1"))
    ours.send(b"alive")


def test_a_server_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        stays(server.accept, lambda: socket.create_connection(address))
        server.settimeout(LONG)
        stays(server.accept, lambda: socket.create_connection(address))
        socket.create_connection(address)


def test_closed_connections_are_passed_over(connect):
    def tries_twice() -> None:
        first = connect()
        first.close()
        second = connect()
        second.recv(1)

    ends(tries_twice)


def test_a_class_whose_fileno_is_python_code_is_no_socket():
    assert wait_end._fileno_of(ssl.SSLSocket) is socket.socket.__base__.fileno
    assert wait_end._fileno_of(ClientOfC) is datetime.date.toordinal
    connections = (Pipe(duplex=False)[0], socket.socketpair()[0].makefile("rb"), select.epoll())
    for one in (*connections, io.FileIO(os.devnull), socket.SocketIO, object()):
        assert wait_end._fileno_of(type(one)) is None


def test_a_wait_that_was_left_alone_is_not_looked_at_again(connect, monkeypatch):
    looks = []
    reachable = wait_end._reachable
    monkeypatch.setattr(wait_end, "_reachable", lambda frame: looks.append(1) or reachable(frame))
    ours, theirs = socket.socketpair()
    descriptor = ours.detach()
    stays(lambda: c_recv(descriptor), lambda: theirs.send(b"1"))
    assert len(looks) == 1
    os.close(descriptor)


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


def test_a_thread_whose_context_switches_are_not_shown_is_left_alone(monkeypatch):
    """They show that it is still the same wait."""
    read = blocked_thread._read
    monkeypatch.setattr(
        blocked_thread, "_read", lambda path: "" if path.endswith("status") else read(path)
    )
    ours, theirs = socket.socketpair()
    stays(lambda: ours.recv(1), lambda: theirs.send(b"1"))
