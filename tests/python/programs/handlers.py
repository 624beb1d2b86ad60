"""Programs that set signal handlers, as SDKs do at their first call."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import time

import dspy

# What a signal called.
_called: list[str] = []

# At import.
signal.signal(signal.SIGTERM, lambda *_: _called.append("import"))


def _note(*_: object) -> None:
    _called.append("SIGTERM")


class Signals(dspy.Module):
    """Sets all that can be set, and answers what it reads back."""

    async def aforward(self, question: str):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, _note)
        loop.add_signal_handler(signal.SIGINT, _note)
        before = signal.getsignal(signal.SIGTERM)
        given = signal.signal(signal.SIGTERM, _note)
        read = signal.getsignal(signal.SIGTERM)
        signal.siginterrupt(signal.SIGTERM, True)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        faulthandler.register(signal.SIGUSR1)
        return {"answer": str([before is given, read is _note])}


class Restores(dspy.Module):
    """Sets handlers for the length of its call."""

    async def aforward(self, question: str):
        loop = asyncio.get_running_loop()
        before = signal.signal(signal.SIGTERM, _note)
        signal.signal(signal.SIGTERM, before)
        loop.add_signal_handler(signal.SIGTERM, _note)
        removed = loop.remove_signal_handler(signal.SIGTERM)
        signal.set_wakeup_fd(-1)
        faulthandler.register(signal.SIGUSR1)
        unregistered = faulthandler.unregister(signal.SIGUSR1)
        return {"answer": str([removed, unregistered])}


class Blocking(dspy.Module):
    """A sync program, which runs on a thread."""

    def forward(self, question: str):
        before = signal.signal(signal.SIGTERM, _note)
        signal.signal(signal.SIGTERM, before)
        return {"answer": "set"}


async def called() -> list[str]:
    return _called


async def own() -> list[str]:
    """Handlers for signals that are a program's own are called."""
    loop = asyncio.get_running_loop()
    seen = []
    for number in (signal.SIGALRM, signal.SIGRTMIN + 2):
        called = asyncio.Event()
        loop.add_signal_handler(number, called.set)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(called.wait(), 30)
        loop.remove_signal_handler(number)
        seen.append(signal.Signals(number).name if number == signal.SIGALRM else "real-time")
    alarms = []
    signal.signal(signal.SIGALRM, lambda *_: alarms.append("timer"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not alarms:
        time.sleep(0.01)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return seen + alarms
