"""A guard that keeps a process that a program forks from acting as a second host.

The child has a copy of this interpreter with one thread: the loop's wake-ups belong to the parent,
and the threads that send LM calls do not exist in it. It therefore exits where its own code would
return to the host: when the program returns or waits, or calls an LM. Children of `multiprocessing`
and `subprocess` never reach these places.
"""

from __future__ import annotations

import os

_in_child = False


def install() -> None:
    """Registers the hook that marks forked children."""
    os.register_at_fork(after_in_child=_mark_child)


def exit_if_forked_child() -> None:
    """Exits this process if it is a forked child that is about to act as the host."""
    if _in_child:
        os._exit(0)


def _mark_child() -> None:
    global _in_child
    _in_child = True
