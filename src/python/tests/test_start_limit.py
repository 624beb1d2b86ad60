import pytest

from tower_dspy import start_limit
from tower_dspy.start_limit import FIRST, MOST, TARGET, StartLimit


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(start_limit, "time", clock)
    return clock


def turn(limit, clock, seconds):
    """The limit after a turn that took so long and left calls waiting."""
    limit.defer()
    clock.now += seconds
    return limit.current()


def test_the_limit_starts_low_and_stays_so_while_no_call_waits(clock):
    limit = StartLimit()
    for _ in range(3):
        assert limit.current() == FIRST
        clock.now += 60


def test_the_limit_grows_while_turns_are_short(clock):
    limit = StartLimit()
    assert turn(limit, clock, TARGET / 10) == 2 * FIRST
    for _ in range(20):
        current = turn(limit, clock, 0)
    assert current == MOST


def test_the_limit_shrinks_when_turns_are_long_down_to_one(clock):
    limit = StartLimit()
    assert turn(limit, clock, TARGET * 2) == FIRST // 2
    for _ in range(20):
        current = turn(limit, clock, TARGET * 2)
    assert current == 1


def test_the_limit_stays_while_turns_are_about_right(clock):
    assert turn(StartLimit(), clock, TARGET * 0.75) == FIRST
