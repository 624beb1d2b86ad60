import time

import pytest
from conftest import in_call

from tower_dspy.patches import sleep


def test_a_sleep_in_a_call_takes_its_time():
    for seconds in (0.05, 0, 1e-9, True * 0):
        begun = time.monotonic()
        with in_call():
            assert time.sleep(seconds) is None
        assert time.monotonic() - begun >= seconds


def test_a_sleep_of_another_type_of_integer_is_one_of_the_calls(monkeypatch):
    class Index:
        def __index__(self) -> int:
            return 7

    taken = []
    monkeypatch.setattr(sleep, "wait", taken.append)
    with in_call():
        time.sleep(Index())
    assert taken == [7]


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e300, "1", None, 1 << 80])
def test_a_sleep_in_a_call_refuses_what_the_original_refuses(seconds):
    with pytest.raises(Exception) as original:
        time.sleep.__wrapped__(seconds)
    with in_call(), pytest.raises(original.type) as patched:
        time.sleep(seconds)
    assert str(patched.value) == str(original.value)


def test_a_sleep_outside_a_call_is_the_original(monkeypatch):
    monkeypatch.setattr(sleep, "wait", lambda _: pytest.fail("not the original"))
    time.sleep(0.001)
