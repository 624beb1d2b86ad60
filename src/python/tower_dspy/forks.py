"""A process that a program forks is no second host.

The child has a copy of this interpreter with one thread: the loop's wake-ups are still its
parent's, and the threads that carry LM calls are not there. So it ends where its own code would
return to the host: when the program returns or waits, or calls an LM. What `multiprocessing` or
`subprocess` makes never gets there.
"""

from __future__ import annotations

import os

_in_child = False


def install() -> None:
    """Sees to forks from now on."""
    os.register_at_fork(after_in_child=_forked)


def leave_if_child() -> None:
    """Ends this process if it is a child that is about to act as the host."""
    if _in_child:
        os._exit(0)


def _forked() -> None:
    global _in_child
    _in_child = True
