import dspy
import pytest

from tower_dspy import program
from tower_dspy.patches import configure

pytestmark = pytest.mark.usefixtures("dspy_settings")


def test_the_configuration_of_a_block_is_captured_and_undone():
    with configure.captured() as changed:
        dspy.configure(flavour="x", num_threads=3)
        assert dspy.settings.flavour == "x"
    assert changed == {"flavour": "x", "num_threads": 3}
    assert "flavour" not in dspy.settings
    assert dspy.settings.num_threads != 3


def test_it_is_undone_also_when_the_block_fails():
    with pytest.raises(LookupError), configure.captured():
        dspy.configure(flavour="x")
        raise LookupError
    assert "flavour" not in dspy.settings


def test_configure_is_refused_outside_a_block_and_works_in_the_next():
    with configure.captured():
        pass
    with pytest.raises(RuntimeError):
        dspy.configure(flavour="x")
    with configure.captured() as changed:
        dspy.configure(flavour="y")
    assert changed == {"flavour": "y"}


@pytest.mark.asyncio
async def test_each_program_runs_with_the_configuration_of_its_module():
    first = program.load(None, {"target": "configures_a:settings"})
    other = program.load(None, {"target": "configures_b:settings"})
    # Imported before, so its code does not run again.
    second = program.load(None, {"target": "configures_a:settings"})
    function = program.load_function({"target": "configures_a:settings"})
    for a in (first, second):
        outputs = await a({})
        assert outputs == {"flavour": "a", "adapter": "JSONAdapter"}
    assert (await function({}))["flavour"] == "a"
    outputs = await other({})
    assert outputs == {"flavour": "b", "adapter": "NoneType"}
