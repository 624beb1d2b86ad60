import pytest
from conftest import in_a_process


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", (10_000, 20, 20)),
        ("gc.set_threshold(1000)", (1000, 10, 10)),
        ("gc.set_threshold(*gc.get_threshold()[:2], 5)", None),
    ],
)
def test_collections_are_less_frequent_unless_the_thresholds_were_changed(before, after):
    code = f"""
import gc
{before}
was = gc.get_threshold()
from tower_dspy import startup
startup.calm_gc()
assert gc.get_threshold() == ({after} or was), gc.get_threshold()
"""
    in_a_process(code)
