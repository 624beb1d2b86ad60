"""Frames of random messages, cut anywhere, and of random bytes; each by its seed."""

import random
import socket
import string
from typing import Any

import pytest

from tower_dspy.frames import Frames

# Also what JSON escapes, what is long in UTF-8, and halves of surrogate pairs.
_LETTERS = string.printable + '\0"\\\x7fäß\u2028\ufffd\U0001f600' + "\ud83d\ude00"


def _text(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randrange(12)))


def _value(rng: random.Random, depth: int = 0) -> Any:
    kinds = 7 if depth < 4 else 5
    match rng.randrange(kinds):
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2:
            return rng.randrange(-(1 << 63), 1 << 64)
        case 3:
            return rng.uniform(-1e9, 1e9)
        case 4:
            return _text(rng)
        case 5:
            return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {f"{n}{_text(rng)}": _value(rng, depth + 1) for n in range(rng.randrange(4))}


def _readable(value: Any) -> Any:
    """`value` as it arrives: what is no UTF-8 is replaced, and halves that meet are one letter."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return value


def _sent(messages: list[tuple[str, Any, bytes]]) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = Frames(ours)
        data = b""
        for message in messages:
            frames.send(*message)
            data += theirs.recv(1 << 20)
        return data


@pytest.mark.parametrize("seed", range(40))
def test_random_messages_arrive_however_they_are_cut(seed: int) -> None:
    rng = random.Random(seed)
    messages = [
        (f"m{_text(rng)}", _value(rng), rng.randbytes(rng.choice([0, 1, 7, 8, 255, 9000])))
        for _ in range(20)
    ]
    data = _sent(messages)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = Frames(ours)
        received = []
        at = 0
        while at < len(data):
            piece = data[at : at + rng.choice([1, 3, 8, 100, 5000])]
            theirs.sendall(piece)
            at += len(piece)
            received += frames.receive()
    assert received == [(_readable(n), _readable(body), tail) for n, body, tail in messages]


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_are_no_frames_are_refused(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(_sent([("start", _value(rng), b"payload"), ("beat", None, b"")]))
    for _ in range(50):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(broken)
            try:
                for name, _, tail in Frames(ours).receive():
                    assert isinstance(name, str)
                    assert isinstance(tail, bytes)
            except (ValueError, AttributeError, RecursionError):
                pass  # a frame that cannot be read ends its reader
