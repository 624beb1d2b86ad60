"""A guard that keeps a process that a program forks from acting as a second host.

The child has a copy of this interpreter with one thread: the loop's wake-ups belong to the parent,
and the threads that send LM calls do not exist in it. It therefore exits where its own code would
return to the host: when the program returns or waits, or calls an LM. Children of `multiprocessing`
and `subprocess` never reach these places.
"""

import os

_host_process: int | None = None


def install() -> None:
    """Makes this process the one that acts as the host."""
    global _host_process
    _host_process = os.getpid()


def exit_if_forked_child() -> None:
    """Exits this process if it is a forked child that is about to act as the host."""
    if _host_process not in (None, os.getpid()):
        os._exit(0)
