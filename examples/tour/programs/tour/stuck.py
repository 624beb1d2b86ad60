"""Programs that nothing inside their process can stop."""

import ctypes


async def holds_the_gil(question: str) -> dict[str, str]:
    """A C call that keeps the GIL for an hour: no Python code runs, to see an exception or else."""
    ctypes.PyDLL(None).sleep(3600)
    return {"answer": "an hour later"}


async def crashes(question: str) -> dict[str, str]:
    """Reads where there is no memory."""
    ctypes.string_at(0)
    return {"answer": "unreachable"}
