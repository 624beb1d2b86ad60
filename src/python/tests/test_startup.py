from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import tqdm

from tower_dspy import startup
from tower_dspy.interrupt import Stint


def test_a_thread_that_is_ended_while_it_shows_its_progress_keeps_no_lock():
    before = tqdm.tqdm.get_lock()
    startup.lock_progress_bars()
    try:
        for _ in range(300):
            began = threading.Event()

            def shows(began: threading.Event = began) -> None:
                began.set()
                while True:
                    with tqdm.tqdm.get_lock():
                        pass

            stint = Stint(shows)
            thread = threading.Thread(target=stint.run, daemon=True)
            thread.start()
            began.wait(30)
            assert stint.interrupt()
            thread.join(30)
            lock = tqdm.tqdm.get_lock()
            assert lock.acquire(timeout=1)
            lock.release()
    finally:
        tqdm.tqdm.set_lock(before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", (10_000, 20, 20)),
        ("gc.set_threshold(1000)", (1000, 10, 10)),
        ("gc.set_threshold(*gc.get_threshold()[:2], 5)", None),
    ],
)
def test_the_collector_runs_less_often_unless_somebody_has_said_how_often(before, after):
    code = f"""
import gc
{before}
was = gc.get_threshold()
from tower_dspy import startup
startup.calm_gc()
assert gc.get_threshold() == ({after} or was), gc.get_threshold()
"""
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path}\n{code}"],
        timeout=60,
        check=True,
    )
