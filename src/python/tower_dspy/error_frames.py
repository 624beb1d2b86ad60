"""The frames that keep an error, and with it the memory of its call."""

import contextlib
import os
import traceback

import dspy

_DSPY = os.path.dirname(dspy.__file__)
# The files of DSPy's whose functions hold the error that they raise on.
_HOLDERS = tuple(
    os.path.join(_DSPY, *path)
    for path in [("utils", "callback.py"), ("clients", "errors.py"), ("_vendor", "lm15", "")]
)


def clear_frames(error: BaseException) -> None:
    """Clears the locals of DSPy's frames that an error which ends a call has come through.

    Some of them hold the error, whose traceback refers to them: a cycle, which would keep all that
    the call has in memory until a garbage collection, thousands of calls later. The frames are of
    functions that have raised the error, so nothing runs in them any more.
    """
    left, seen = [error], set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        left += (cause for cause in (one.__cause__, one.__context__) if cause is not None)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename.startswith(_HOLDERS):
                with contextlib.suppress(RuntimeError):  # it runs
                    frame.clear()
