"""Frames on the socket between a host and one of its worker processes.

A frame is its length, the length of its header, the header (a JSON object whose one key names the
message) and a payload of raw bytes. The lengths are big-endian and of 4 bytes each; the first does
not count itself. The messages are in wire.rs.
"""

import json
import logging
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from tower_dspy.interrupt import shielded
from tower_dspy.payload import to_utf8

_LENGTHS = struct.Struct("!II")
AT_ONCE = 1 << 18
# The longest frame that a host reads, see frames.rs.
_LONGEST = 80 << 20
# How many frames wait while a log is written.
_MOST_HELD = 64


class Frames:
    """Both ways of a socket. Any thread may send; any may read, one at a time, and shielded.

    A worker whose host is gone exits as soon as it has received the last frames.
    """

    def __init__(self, taken: socket.socket) -> None:
        self._socket = taken
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._received = bytearray()
        # Frames that go with the next one.
        self._held: deque[bytes] = deque()
        self._closed = False
        # The host has closed the socket, or is gone.
        self._ended = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket in this process alone. Nothing is sent or received from now on."""
        self._closed = True
        os.close(self._socket.detach())

    def send(self, name: str, body: Any = None, payload: bytes = b"") -> None:
        """Sends a frame, after the queued ones."""
        self.hold(name, body, payload)
        self.flush()

    def hold(self, name: str, body: Any = None, payload: bytes = b"") -> int:
        """Queues a frame, which goes with the next one or with `flush`; returns how many wait."""
        self._held.append(_frame(name, body, payload))
        return len(self._held)

    def flush(self) -> None:
        """Sends the queued frames."""
        if self._held and not self._closed:
            shielded(self._flush)

    def _flush(self) -> None:
        with self._sending:
            held = []
            while self._held:  # also what is queued meanwhile
                held.append(self._held.popleft())
            try:
                # It blocks while the host is slow to read, which bounds the queue.
                self._socket.sendall(b"".join(held))
            except OSError:
                os._exit(1)

    def receive(self) -> Iterator[tuple[str, Any, bytes]]:
        """The messages that have arrived. None if another thread is reading."""
        if self._closed or not self._reading.acquire(blocking=False):
            return
        try:
            while self._fill():
                pass
            yield from self._whole()
            if self._ended:
                os._exit(1)
        finally:
            self._reading.release()

    def _fill(self) -> bool:
        """Reads once; returns whether more may have arrived."""
        try:
            data = self._read()
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self._ended = not data
        self._received += data
        return len(data) == AT_ONCE

    def _read(self) -> bytes:
        return self._socket.recv(AT_ONCE, socket.MSG_DONTWAIT)

    def _whole(self) -> Iterator[tuple[str, Any, bytes]]:
        received = self._received
        at = 0
        while len(received) - at >= _LENGTHS.size:
            length, header = _LENGTHS.unpack_from(received, at)
            end = at + 4 + length
            if len(received) < end:
                break
            begin = at + _LENGTHS.size
            ((name, body),) = json.loads(received[begin : begin + header]).items()
            yield name, body, bytes(received[begin + header : end])
            at = end
        del received[:at]


def _frame(name: str, body: Any, payload: bytes) -> bytes:
    # With escapes in it, a lone surrogate would be ASCII, and found by Rust.
    header = to_utf8(json.dumps({name: body}, ensure_ascii=False, separators=(",", ":")))
    if 4 + len(header) + len(payload) > _LONGEST:
        raise ValueError(
            f"it has {len(header) + len(payload)} bytes, and at most {_LONGEST} go from a worker "
            "process to its host at once"
        )
    return b"".join((_LENGTHS.pack(4 + len(header) + len(payload), len(header)), header, payload))


class Log:
    """A log that sends its records by frames.

    Each send wakes the host, so a record that is no warning goes with the next frame, at the latest
    with a heartbeat.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __call__(self, level: int, logger: str, message: str, call: Any) -> None:
        record = {"level": level, "logger": logger, "message": message}
        waiting = self.frames.hold("log", {**record, "call": getattr(call, "sequence", None)})
        if level >= logging.WARNING or waiting >= _MOST_HELD:
            self.frames.flush()
