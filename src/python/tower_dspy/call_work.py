"""Work of a call outside its loop: a thread or a process, as a child of the call like its tasks."""

import asyncio
import contextlib
from typing import Any


class CallWork(asyncio.Future):
    """A future that is done when the work has ended."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.name = name
        # Set where the work ends: the future itself is done one turn of the loop later.
        self.over = False

    def cancel(self, msg: Any = None) -> bool:
        """Tells the work to stop. The future stays pending until it has."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Tells the work to stop, from any thread."""
        raise NotImplementedError

    def is_over(self) -> bool:
        """Whether the work has ended, from any thread."""
        return self.over

    def end(self) -> None:
        """Marks the work as over, from any thread."""
        self.over = True
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            self.get_loop().call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.done():
            self.set_result(None)
