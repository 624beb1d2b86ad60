"""A guard that keeps a process that a program forks from acting as a second host.

The child has a copy of this interpreter with one thread: the loop's wake-ups belong to the parent,
and the threads that send LM calls do not exist in it. It therefore exits where its own code would
return to the host: when the program returns or waits, or calls an LM. Children of `multiprocessing`
and `subprocess` never reach these places.
"""

import os

_is_forked_child = False


def install() -> None:
    """Makes this process the one that acts as the host."""
    os.register_at_fork(after_in_child=_mark_child)


def _mark_child() -> None:
    global _is_forked_child
    _is_forked_child = True


def exit_if_forked_child() -> None:
    """Exits this process if it is a forked child that is about to act as the host."""
    if _is_forked_child:
        os._exit(0)
