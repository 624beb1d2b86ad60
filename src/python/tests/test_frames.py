"""Frames on a socket, as both ends see them."""

import logging
import math
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tower_dspy import frames
from tower_dspy.frames import Frames, Log
from tower_dspy.jsonable import to_json_data
from tower_dspy.payload import to_json, to_utf8


@pytest.fixture
def ends() -> Iterator[tuple[Frames, socket.socket]]:
    ours, theirs = socket.socketpair()
    frames = Frames(ours)
    yield frames, theirs
    theirs.close()
    frames.close()


def test_frames_arrive_as_they_were_sent(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    other = Frames(theirs)
    frames.send("beat")
    frames.send("done", {"call": 7}, b"[1]\0")
    assert list(other.receive()) == [("beat", None, b""), ("done", {"call": 7}, b"[1]\0")]
    assert list(other.receive()) == []


def test_a_frame_that_is_too_long_is_not_sent(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    for send in (frames.send, frames.hold):
        with pytest.raises(ValueError, match="at most 83886080 go"):
            send("done", {"call": 7}, b"x" * (80 << 20))
    frames.send("beat")
    assert list(Frames(theirs).receive()) == [("beat", None, b"")]


def test_queued_frames_go_before_the_next_one(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    other = Frames(theirs)
    frames.hold("stepped", {"call": 1})
    frames.hold("stepped", {"call": 2})
    assert list(other.receive()) == []
    frames.send("beat")
    names = [name for name, _, _ in other.receive()]
    assert names == ["stepped", "stepped", "beat"]
    frames.hold("done", {"call": 3}, b"[1]")
    frames.flush()
    frames.flush()
    assert list(other.receive()) == [("done", {"call": 3}, b"[1]")]


def test_a_record_that_is_no_warning_goes_with_the_next_frame(
    ends: tuple[Frames, socket.socket],
) -> None:
    frames, theirs = ends
    other, log = Frames(theirs), Log(frames)
    log(logging.INFO, "app", "one", None)
    assert list(other.receive()) == []
    frames.send("beat")
    assert [name for name, _, _ in other.receive()] == ["log", "beat"]
    log(logging.INFO, "app", "two", None)
    log(logging.WARNING, "app", "three", None)
    assert [body["message"] for _, body, _ in other.receive()] == ["two", "three"]


def test_many_records_do_not_wait(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    other, log = Frames(theirs), Log(frames)
    for _ in range(1000):
        log(logging.DEBUG, "app", "?", None)
    assert 900 < len(list(other.receive())) < 1000


def test_a_frame_that_comes_in_pieces_is_one(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    ours, sent = socket.socketpair()
    with ours, sent:
        Frames(ours).send("start", {"call": 1}, b"x" * 10)
        whole = sent.recv(1000)
    for byte in whole[:-1]:
        theirs.send(bytes([byte]))
        assert list(frames.receive()) == []
    theirs.send(whole[-1:])
    assert list(frames.receive()) == [("start", {"call": 1}, b"x" * 10)]


def test_the_last_frames_before_an_end_of_the_socket_are_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Exit(BaseException):
        pass

    def leave(_: int) -> None:
        raise Exit

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(frames, "AT_ONCE", 64)
    for surplus in (-1, 0, 1):
        ours, theirs = socket.socketpair()
        reads, other = Frames(ours), Frames(theirs)
        other.send("reap", None, b"x" * (64 + surplus - len(frames._frame("reap", None, b""))))
        other.close()
        received: list[str] = []
        with pytest.raises(Exit):
            while True:
                for name, _, _ in reads.receive():
                    received.append(name)
        assert received == ["reap"]
        reads.close()


def test_a_long_frame_waits_for_its_reader(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    other = Frames(theirs)
    tail = b"x" * (8 << 20)
    thread = threading.Thread(target=frames.send, args=("done", None, tail))
    thread.start()
    received: list[bytes] = []
    while not received:
        received = [tail for _, _, tail in other.receive()]
    thread.join()
    assert received == [tail]


def test_a_closed_socket_sends_and_receives_nothing() -> None:
    ours, theirs = socket.socketpair()
    frames = Frames(ours)
    frames.close()
    frames.send("beat")
    assert list(frames.receive()) == []
    assert theirs.recv(1) == b""
    theirs.close()


def test_values_are_json_or_refused() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": (1 << 64) - 1}
    assert to_json(value) == '{"a":[1,2.5,null,true,"ü"],"b":18446744073709551615}'.encode()
    deep: list = []
    for _ in range(130):
        deep = [deep]
    for refused, error, said in [
        (deep, ValueError, "nested deeper"),
        (math.nan, ValueError, "JSON has no number for nan"),
        ([math.inf], ValueError, "JSON has no number for inf"),
        (1 << 64, OverflowError, "64 bits"),
        ({"k": object()}, TypeError, "JSON has no value for a object"),
    ]:
        with pytest.raises(error, match=said):
            to_json(refused)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("plain", "plain"),
        ("gr\u00fcn \U0001f600", "gr\u00fcn \U0001f600"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ude00 late", "\ufffd late"),
        ("\ud83d\ud83d", "\ufffd\ufffd"),
        ("halves \ud83d\ude00", "halves \U0001f600"),
        ("caf\udce9.py", "caf\ufffd.py"),
    ],
)
def test_text_that_leaves_is_utf8(text: str, sent: str) -> None:
    assert to_utf8(text).decode() == sent


def test_a_lone_surrogate_leaves_no_frame_unreadable(ends: tuple[Frames, socket.socket]) -> None:
    frames, theirs = ends
    half = "\ud83d"
    frames.send("failed", {"message": half, half: [half]}, to_json({"answer": half, half: 1}))
    data = theirs.recv(1000)
    assert b"\\u" not in data
    assert data.count("\ufffd".encode()) == 5


def test_a_lone_surrogate_in_a_name_is_replaced_too() -> None:
    value = {"a": [{"cut \ud83d": 1}], 2: ("x",)}
    assert to_json(to_json_data(value)) == '{"a":[{"cut \ufffd":1}],"2":["x"]}'.encode()
