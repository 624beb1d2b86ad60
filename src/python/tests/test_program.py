import dspy
import pytest
from conftest import own_messages
from fakes import FakeLmHost

import outputs
from tower_dspy import program
from tower_dspy.faults import HostError

LM = {"id": 0, "model": "openai/x", "base_url": "http://127.0.0.1:1/v1", "keyed": True}
PORT = FakeLmHost()

pytestmark = pytest.mark.usefixtures("dspy_settings")


def load(target, **spec):
    return program.load(PORT, {"target": target, "lm": LM, **spec})


@pytest.mark.parametrize(
    "target",
    [
        "shapes:factory",
        "shapes:Ask",
        "shapes:instance",
        "shapes:Holder.nested",
        "shapes:Question",
        "shapes:function",
        "question -> answer",
    ],
)
def test_a_program_may_be_given_in_many_shapes(target):
    described = load(target).describe()
    assert [field["name"] for field in described["inputs"]] == ["question"]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("no_such_module:X", "not_found"),
        ("shapes:Missing", "not_found"),
        ("shapes:number", "not_a_program"),
        ("shapes:NotAModule", "not_a_program"),
        ("shapes:NoWay", "not_a_program"),
        ("shapes:sync_function", "not_a_program"),
        ("mistakes:TakesArguments", "not_a_program"),
        ("mistakes:returns_a_text", "not_a_program"),
        ("mistakes.inner:X", "not_found"),
        ("needs_a_package:X", "package"),
        ("shapes:TwoWays", "schema"),
        ("question -> answer: no_such_type", "signature"),
    ],
)
def test_a_target_that_is_no_program_is_refused_by_kind(target, kind):
    with pytest.raises(HostError) as caught:
        load(target)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("target", "blocking"),
    [
        ("shapes:SyncOnly", True),
        ("shapes:Overrides", True),
        ("shapes:best_of", True),
        ("shapes:OneWay", False),
        ("question -> answer", False),
    ],
)
def test_a_program_is_sync_where_its_forward_is_newer_than_its_aforward(target, blocking):
    program = load(target)
    assert program.blocking is blocking
    described = program.describe()
    assert [field["name"] for field in described["inputs"]] == ["question"]
    assert described["blocking"] is blocking


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(HostError, match="pip install no_such_library_at_all") as caught:
        load("broken_import:X")
    assert caught.value.kind == "package"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_program_may_be_given_as_source():
    source = "async def f(x: int): return {'x': x}"
    spec = {"source": source, "module": "given_source", "attribute": "f"}
    assert load("source:f", **spec).describe()["inputs"][0]["expected"] == "int"


def test_a_program_with_predictors_needs_an_lm():
    with pytest.raises(HostError) as caught:
        program.load(PORT, {"target": "question -> answer"})
    assert caught.value.kind == "lm"
    program.load(PORT, {"target": "outputs:rich"})


def test_a_module_whose_code_may_make_its_lm_is_loaded_without_one(caplog):
    source = """
import dspy

class Makes(dspy.Module):
    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        with dspy.context(lm=dspy.LM("openai/m", api_key="own")):
            return await self.qa.acall(question=question)
"""
    spec = {"module": "makes_its_lm", "source": source, "attribute": "Makes"}
    program.load(PORT, {"target": "makes_its_lm:Makes", **spec})
    (said,) = own_messages(caplog)
    assert said.startswith("makes_its_lm:Makes has predictors and was loaded without an LM")


def test_a_state_is_loaded_and_a_pickle_only_when_trusted(tmp_path):
    own = dspy.Predict("question -> answer")
    own.demos = [dspy.Example(question="q", answer="a").with_inputs("question")]
    for name in ("state.json", "state.pkl"):
        own.save(tmp_path / name)
    load("question -> answer", state=str(tmp_path / "state.json"))
    with pytest.raises(HostError, match="state_from_trusted_pickle"):
        load("question -> answer", state=str(tmp_path / "state.pkl"))
    load("question -> answer", state=str(tmp_path / "state.pkl"), trust_pickle=True)
    with pytest.raises(HostError, match="does not load"):
        load("question -> answer", state=str(tmp_path / "missing.json"))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["a_string", "nothing", "opaque", "itself"], ids=lambda name: name)
async def test_an_answer_that_is_not_json_is_refused(name):
    with pytest.raises(HostError) as caught:
        await load(f"outputs:{name}")({})
    assert caught.value.kind == "output"


@pytest.mark.asyncio
async def test_a_rich_answer_becomes_plain_data():
    answer = await load("outputs:rich")({})
    assert answer["point"] == {"x": 1, "tags": ["a"]}
    assert outputs.Point(**answer["point"]).x == 1
