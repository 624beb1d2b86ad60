from __future__ import annotations

import threading

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
