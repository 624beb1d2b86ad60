"""Protection of the signal handlers of an embedded host's process.

A handler that a program sets for SIGTERM would replace the server's: the process would not drain,
or not end at all. So `signal.signal` and `signal.siginterrupt`, on which asyncio's
`add_signal_handler` is built, and `faulthandler.register` change nothing for such a signal. They
check their arguments and store the handler, so that `signal.getsignal` and restoring a handler
behave as usual. `signal.set_wakeup_fd` needs no patch: only handlers set through Python write to
it.

The signals of timers and the real-time ones are the program's.

In a process that a program forks all signals are the program's: there the handlers that it set are
put in place, and those of the host, which would do nothing there, are removed.
"""

import contextlib
import faulthandler
import logging
import operator
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("tower_dspy.signals")

_FIRST_REAL_TIME = 32  # the C library keeps the first of them for itself
_TIMERS = {signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF}
# No handler can be set for these: Python raises its usual error.
_UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
_PROTECTED = set(range(1, _FIRST_REAL_TIME)) - _TIMERS - _UNCATCHABLE

_signal = signal.signal
_getsignal = signal.getsignal
_siginterrupt = signal.siginterrupt
_register = faulthandler.register
_unregister = faulthandler.unregister

# The handlers that programs have set and the process does not have.
_handlers: dict[int, Any] = {}
_registered: set[int] = set()
_warned: set[str] = set()
_in_child = False
_name_program: Callable[[], str | None] | None = None


def install() -> None:
    """Installs the patch."""
    signal.signal = _set
    signal.getsignal = _get
    signal.siginterrupt = _set_interrupt
    faulthandler.register = _register_dump
    faulthandler.unregister = _unregister_dump
    os.register_at_fork(after_in_child=_forked)


def name_programs(by: Callable[[], str | None]) -> None:
    """Sets how the program that runs on a thread is found, for the warning."""
    global _name_program
    _name_program = by


def _set(signalnum: int, handler: Any) -> Any:
    number = _protected_number(signalnum)
    if number is None:
        return _signal(signalnum, handler)
    if not callable(handler) and handler not in (signal.SIG_DFL, signal.SIG_IGN):
        raise TypeError(
            "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
        )
    before = _get(number)
    restores = number in _handlers and handler in (signal.SIG_DFL, signal.default_int_handler)
    _handlers[number] = handler
    if not restores:
        _warn(number)
    return before


def _get(signalnum: int) -> Any:
    number = _protected_number(signalnum)
    if number is None:
        return _getsignal(signalnum)
    handler = _handlers.get(number)
    if handler is None:
        handler = _getsignal(number)
    # None stands for a handler that was not set by Python, and cannot be restored.
    return signal.SIG_DFL if handler is None else handler


def _set_interrupt(signalnum: int, flag: bool) -> None:
    number = _protected_number(signalnum)
    if number is None:
        _siginterrupt(signalnum, flag)


def _register_dump(
    signum: int, file: Any = sys.stderr, all_threads: bool = True, chain: bool = False
) -> None:
    number = _protected_number(signum)
    if number is None:
        _register(signum, file, all_threads, chain)
    else:
        _registered.add(number)
        _warn(number)


def _unregister_dump(signum: int) -> bool:
    number = _protected_number(signum)
    if number is None:
        return _unregister(signum)
    was_registered = number in _registered
    _registered.discard(number)
    return was_registered


def _protected_number(signalnum: Any) -> int | None:
    """The signal's number if its handler is the process's; None if Python handles the request."""
    if _in_child:
        return None
    try:
        number = operator.index(signalnum)
    except TypeError:
        return None
    return number if number in _PROTECTED else None


def _warn(number: int) -> None:
    program = (_name_program and _name_program()) or "code that belongs to no call"
    if program in _warned:
        return
    _warned.add(program)
    _log.warning(
        "%s sets a handler for %s, which belongs to the process: the handler is not called",
        program,
        signal.Signals(number).name,
    )


def _forked() -> None:
    global _in_child
    _in_child = True
    for number in (_caught() | _handlers.keys()) & _PROTECTED:
        with contextlib.suppress(OSError, ValueError):
            _signal(number, _handlers.get(number, signal.SIG_DFL))


def _caught() -> set[int]:
    """The signals for which this process has handlers, set by Python or not."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("SigCgt:"):
                mask = int(line.split()[1], 16)
                return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    return set()
