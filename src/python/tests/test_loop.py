import resource

import pytest
from conftest import in_a_process


def test_threads_have_the_stack_of_a_main_thread_where_that_has_no_limit():
    soft_and_hard = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("the stack's hard limit is not to be raised here")
    code = """
import threading
import deep
from fakes import FakeHost
from tower_dspy import loop

loop.make(FakeHost(), (1.0, 1))
thread = threading.Thread(target=lambda: print(deep._descend(100)["answer"]))
thread.start()
thread.join()
"""
    said = in_a_process(
        code, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, soft_and_hard)
    )
    assert said.split() == ["bottom"]
