"""Processes and their descendants, by pidfds."""

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from processes import python
from tower_dspy import process_tree
from tower_dspy.process_tree import Process, ProcessTree

_LAST_PID = "/proc/sys/kernel/ns_last_pid"


def sleeper(**options: Any) -> subprocess.Popen:
    return subprocess.Popen(["sleep", "3600"], **options)


def ended(child: subprocess.Popen) -> int:
    child.kill()
    return child.wait()


def takes_its_place(child: subprocess.Popen, **options: Any) -> subprocess.Popen:
    """A process with the id of one that has ended and been reaped."""
    ended(child)
    for _ in range(20):  # another process of the machine may come first
        try:
            with open(_LAST_PID, "w", encoding="ascii") as last:
                last.write(str(child.pid - 1))
        except OSError as error:
            pytest.skip(f"the next process id cannot be set: {error}")
        other = sleeper(**options)
        if other.pid == child.pid:
            return other
        ended(other)
    pytest.skip("the id was taken")


def test_a_process_that_got_the_id_of_one_that_has_ended_is_not_signalled():
    child = sleeper()
    tree = ProcessTree(Process(child.pid))
    other = takes_its_place(child)
    assert not tree.runs()
    tree.send(signal.SIGKILL)
    tree.kill_known()
    assert tree.wait(0)
    assert other.poll() is None
    ended(other)


def test_children_of_a_process_that_got_the_id_of_one_that_has_ended_are_not_signalled(monkeypatch):
    child = sleeper()
    tree = ProcessTree(Process(child.pid))
    other = takes_its_place(child)
    stranger = sleeper()
    found = process_tree._parent_and_group

    def as_child_of_the_other(pid: int) -> tuple[int, ...]:
        return (other.pid, other.pid) if pid == stranger.pid else found(pid)

    monkeypatch.setattr(process_tree, "_HAS_CHILDREN", False)
    monkeypatch.setattr(process_tree, "_parent_and_group", as_child_of_the_other)
    tree.send(signal.SIGKILL)
    assert stranger.poll() is None
    ended(stranger)
    ended(other)


def test_a_descendant_whose_id_is_taken_between_two_looks_is_not_signalled(monkeypatch):
    root = sleeper()
    tree = ProcessTree(Process(root.pid))
    stranger = sleeper()
    looks = []
    found = process_tree._parent_and_group

    def a_descendant_at_first(pid: int) -> tuple[int, ...]:
        if pid != stranger.pid:
            return found(pid)
        looks.append(pid)
        return (root.pid, 1) if len(looks) % 2 else found(pid)

    monkeypatch.setattr(process_tree, "_HAS_CHILDREN", False)
    monkeypatch.setattr(process_tree, "_parent_and_group", a_descendant_at_first)
    tree.send(signal.SIGTERM)
    assert len(looks) >= 2
    assert root.wait(30) == -signal.SIGTERM
    assert stranger.poll() is None
    ended(stranger)


@pytest.mark.parametrize("has_children", [process_tree._HAS_CHILDREN, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_are_forked_meanwhile_end_with_their_tree(monkeypatch, number, has_children):
    # Whether the system lists the children of a process.
    monkeypatch.setattr(process_tree, "_HAS_CHILDREN", has_children)
    mark = f"3600.{os.getpid()}{number}"
    forks = f"import subprocess\nwhile True: subprocess.Popen(['sleep', '{mark}'])"
    bystander = sleeper()
    for _ in range(4):
        # The one begins to fork, the other goes on to do so.
        for command in (["sh", "-c", f"sleep {mark} & sleep {mark} & wait"], python(forks)):
            child = subprocess.Popen(command)
            tree = ProcessTree(Process(child.pid))
            while command[0] != "sh" and len(commands(mark)) < 9:
                time.sleep(0.001)
            tree.send(number)
            assert tree.wait(30)
            child.wait()
        assert commands(mark) == []
    assert bystander.poll() is None
    ended(bystander)


@pytest.mark.parametrize("flag", [process_tree._PROCESS_GROUP, 1 << 30])
def test_the_group_that_a_process_led_ends_after_it(monkeypatch, flag):
    # No system knows the second flag.
    monkeypatch.setattr(process_tree, "_PROCESS_GROUP", flag)
    mark = f"3601.{os.getpid()}"
    child = subprocess.Popen(f"sleep {mark} & sleep {mark} &", shell=True, start_new_session=True)
    tree = ProcessTree(Process(child.pid))
    child.wait()
    assert tree.runs()
    assert not tree.wait(0.01)
    assert len(commands(mark)) == 2
    tree.send(signal.SIGTERM)
    assert tree.wait(30)
    assert commands(mark) == []
    assert not tree.runs()


def test_a_group_of_a_process_that_got_the_id_of_one_that_has_ended_is_not_signalled():
    child = sleeper(start_new_session=True)
    tree = ProcessTree(Process(child.pid))
    other = takes_its_place(child, start_new_session=True)
    assert not tree.runs()
    tree.send(signal.SIGKILL)
    assert other.poll() is None
    ended(other)


def test_no_process_stays_stopped_where_others_cannot_be_looked_up(monkeypatch):
    child = sleeper()
    tree = ProcessTree(root := Process(child.pid))
    looks = iter([[root]])
    # The second one raises.
    monkeypatch.setattr(tree, "_find", lambda: next(looks))
    with pytest.raises(StopIteration):
        tree.send(signal.SIGTERM)
    assert child.wait(30) == -signal.SIGTERM


def commands(part: str) -> list[bytes]:
    """The commands of the processes that run, with this in them."""
    found = []
    for pid in process_tree._all_pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
            found.append(command.read())
    return [command for command in found if part.encode() in command]


def test_waiting_is_not_longer_than_asked_for_and_may_be_for_a_year():
    child = sleeper()
    tree = ProcessTree(Process(child.pid))
    assert not tree.wait(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert tree.wait(365 * 86_400)
    child.wait()


def test_no_process_is_opened_for_an_id_that_nobody_has():
    child = sleeper()
    ended(child)
    with pytest.raises(ProcessLookupError):
        Process(child.pid)
