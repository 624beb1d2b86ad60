"""The race of a hedge: two members of a group, of which the first answer wins.

In async code each member runs in a task of its own. In sync code the first runs on the thread that
makes the LM call, the second later on another one. An answer that is streamed wins with its first
content.

Invariants:
1. Nothing of an answer goes on before the requests of the other member are told to end.
2. Both members have ended when the LM call has. A thread cannot be cancelled: sync code waits for
   that of the other member, which ends with its request.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from tower_dspy.adapter_call import CURRENT_ADAPTER_CALL, AdapterCall
from tower_dspy.lm_group import LmGroup
from tower_dspy.lm_members import MemberCall, content_by, name_earlier


def hedge(execute: Any, lm: Any, call: Any, group: LmGroup) -> Any:
    """Executes an LM call of a hedge in sync code."""
    race = _Race(lm, call, group, threading.Event())

    def run_second() -> Any:
        race.start.wait(group.hedge_after)
        if race.begin_second():
            with race.second_attempt():
                return race.second.run(execute)
        return None

    # It waits for its thread at the end.
    with ThreadPoolExecutor(1, "tower-dspy-hedge") as pool:
        second = pool.submit(contextvars.copy_context().run, run_second)
        try:
            with race.first_attempt():
                result = race.first.run(execute)
            if race.winner is not race.first:
                result = second.result()
        except dspy.LMError as error:
            race.failed(error)
            raise
        finally:
            race.end()
    race.answered()
    return result


async def hedge_async(execute: Any, lm: Any, call: Any, group: LmGroup) -> Any:
    """Executes an LM call of a hedge in async code."""
    race = _Race(lm, call, group, asyncio.Event())

    async def run_second() -> Any:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(race.start.wait(), group.hedge_after)
        if race.begin_second():
            with race.second_attempt():
                return await race.second.run_async(execute)
        return None

    async def run_first() -> Any:
        with race.first_attempt():
            return await race.first.run_async(execute)

    first, second = both = asyncio.create_task(run_first()), asyncio.create_task(run_second())
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if race.winner is not race.second:
            result = await first
        if race.winner is not race.first:
            result = await second
    except dspy.LMError as error:
        race.failed(error)
        raise
    finally:
        race.end()
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        for task in both:
            if not task.cancelled():
                task.exception()  # or asyncio reports that nobody asked for it
    race.answered()
    return result


class _Race:
    """The LM calls of two members, and which of them won."""

    def __init__(self, lm: Any, call: Any, group: LmGroup, start: Any) -> None:
        limit = content_by(group, 1)
        self.first, self.second = (MemberCall(lm, call, one, limit) for one in group.members)
        # An event: the second need not wait any longer.
        self.start = start
        self.winner: MemberCall | None = None
        self._lock = threading.Lock()
        self._has_begun = self._is_over = False
        self._first_failure: dspy.LMError | None = None
        self._adapter_call = CURRENT_ADAPTER_CALL.get()
        # Whether the LM call is streamed, once one of the two has asked.
        self._is_streamed: bool | None = None

    @contextlib.contextmanager
    def first_attempt(self) -> Iterator[None]:
        """The LM call of the first member. It may fail if the second member may answer."""
        with self._as_streamed(self.first):
            try:
                yield
            except dspy.LMError as error:
                if not self._is_left_to_second(error):
                    raise
            else:
                self.claim(self.first)

    @contextlib.contextmanager
    def second_attempt(self) -> Iterator[None]:
        """The LM call of the second member."""
        with self._as_streamed(self.second):
            yield
            self.claim(self.second)

    def begin_second(self) -> bool:
        """Whether the second member is to be asked."""
        with self._lock:
            self._has_begun = self.winner is None and not self._is_over
            return self._has_begun

    def claim(self, member_call: MemberCall) -> bool:
        """Whether this member wins: it does if it is the first to ask."""
        with self._lock:
            if self.winner is None and not self._is_over:
                self.winner = member_call
                other = self.second if member_call is self.first else self.first
                other.lm_call.stop()
            return self.winner is member_call

    def answered(self) -> None:
        """The LM call returns the answer of the winner."""
        if self.winner is not None:
            self.winner.answered()

    def failed(self, error: Any) -> None:
        """The LM call fails with this; the message of the second's failure names the first's."""
        if self._first_failure is error:
            self.first.failed()
            return
        self.second.failed()
        if self._first_failure is not None:
            name_earlier(error, [(self.first.model, self._first_failure)])

    def end(self) -> None:
        """Ends the race: a second member that has not won is stopped."""
        with self._lock:
            self._is_over = True
            if self.winner is not self.second:
                self.second.lm_call.stop()
        self.start.set()
        if self.winner is None and self._is_streamed:
            self._adapter_call.fail()

    def take(self) -> bool:
        """Whether the LM call is streamed: both members are, or none."""
        with self._lock:
            if self._is_streamed is None:
                self._is_streamed = self._adapter_call.take()
            return self._is_streamed

    def _is_left_to_second(self, error: dspy.LMError) -> bool:
        with self._lock:
            if self.winner is self.second:
                return True
            self._first_failure = error
            if self.winner is self.first:
                return False
            if self._has_begun:
                return True
            # The second begins now, unless it would fail in the same way.
            self._is_over = not self.first.may_be_replaced(error)
        self.start.set()
        return not self._is_over

    @contextlib.contextmanager
    def _as_streamed(self, member_call: MemberCall) -> Iterator[None]:
        if self._adapter_call is None:
            yield
            return
        raced = _RacedAdapterCall(self._adapter_call, self, member_call)
        token = CURRENT_ADAPTER_CALL.set(raced)
        try:
            yield
        finally:
            CURRENT_ADAPTER_CALL.reset(token)


class _RacedAdapterCall:
    """The use of an adapter for one of two LM calls, of which the first with text is streamed."""

    def __init__(self, adapter_call: AdapterCall, race: _Race, member_call: MemberCall) -> None:
        self._adapter_call = adapter_call
        self._race = race
        self._member_call = member_call

    def take(self) -> bool:
        return self._race.take()

    def text(self, text: str) -> bool:
        return self._race.claim(self._member_call) and self._adapter_call.text(text)

    def thinking(self, text: str) -> bool:
        return self._race.claim(self._member_call) and self._adapter_call.thinking(text)

    def has_begun(self) -> bool:
        return self._is_winner() and self._adapter_call.has_begun()

    def fail(self) -> None:
        if self._is_winner():
            self._adapter_call.fail()

    async def wait(self) -> None:
        await self._adapter_call.wait()

    def wait_on_thread(self) -> None:
        self._adapter_call.wait_on_thread()

    def _is_winner(self) -> bool:
        return self._race.winner is self._member_call
