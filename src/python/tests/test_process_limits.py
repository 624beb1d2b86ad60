"""The memory limit of a worker, in a process of its own."""

import pytest
from conftest import in_a_process

from tower_dspy import process_limits


def test_a_limit_below_the_memory_in_use_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_limit is 1 MiB: raise that"):
        process_limits.limit_memory(1 << 20)
    process_limits.limit_memory(None)


def test_memory_over_the_limit_is_an_error_in_python() -> None:
    code = """
from tower_dspy import process_limits
process_limits.limit_memory(256 << 20)
try:
    bytearray(2 << 30)
except MemoryError:
    print("refused", len(bytearray(1 << 20)))
"""
    assert in_a_process(code) == "refused 1048576\n"
