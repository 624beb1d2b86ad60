"""Sync programs that wait, each in another way, once they have connected to the benchmark."""

import queue
import socket
import subprocess
import time

import dspy

# Longer than a round may take, in seconds. The child ends sooner where nothing stops it.
LONG = 3600
LONG_FOR_A_CHILD = 5


class _Waits(dspy.Module):
    def forward(self, port: int):
        self.wait(socket.create_connection(("127.0.0.1", port)))
        return {}


class Socket(_Waits):
    def wait(self, connection: socket.socket) -> None:
        connection.recv(1)


class SocketWithLimit(_Waits):
    def wait(self, connection: socket.socket) -> None:
        connection.settimeout(LONG)
        connection.recv(1)


class Sleep(_Waits):
    def wait(self, _: socket.socket) -> None:
        time.sleep(LONG)


class Queue(_Waits):
    def wait(self, _: socket.socket) -> None:
        queue.Queue().get()


class Child(_Waits):
    def wait(self, _: socket.socket) -> None:
        subprocess.run(["sleep", str(LONG_FOR_A_CHILD)], check=False)
