from __future__ import annotations

import pytest

from tower_dspy import pacing
from tower_dspy.pacing import FIRST, MOST, TARGET, Pacer


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def turn(pacer, clock, seconds):
    """The allowance after a turn that took so long and left calls waiting."""
    pacer.held_back()
    clock.now += seconds
    return pacer.allowance()


def test_it_begins_cautiously_and_stays_so_while_nothing_waits(clock):
    pacer = Pacer()
    for _ in range(3):
        assert pacer.allowance() == FIRST
        clock.now += 60


def test_it_grows_while_turns_are_short_up_to_a_limit(clock):
    pacer = Pacer()
    assert turn(pacer, clock, TARGET / 10) == 2 * FIRST
    for _ in range(20):
        allowance = turn(pacer, clock, 0)
    assert allowance == MOST


def test_it_shrinks_when_turns_are_long_and_always_lets_one_start(clock):
    pacer = Pacer()
    assert turn(pacer, clock, TARGET * 2) == FIRST // 2
    for _ in range(20):
        allowance = turn(pacer, clock, TARGET * 2)
    assert allowance == 1


def test_it_stays_where_turns_are_about_right(clock):
    assert turn(Pacer(), clock, TARGET * 0.75) == FIRST
