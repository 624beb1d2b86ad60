"""Programs: modules and functions that are found by name, built once and called many times."""

import logging
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

from tower_dspy import host_lms, packages, targets
from tower_dspy import schema as schemas
from tower_dspy.call_state import CURRENT_CALL
from tower_dspy.call_stream import CallStream
from tower_dspy.checkpoint import CHECKPOINT
from tower_dspy.faults import HostError, host_error
from tower_dspy.host_tools import build_tools
from tower_dspy.jsonable import to_json_data
from tower_dspy.lm_group import single_configs
from tower_dspy.load_steps import Steps, run_steps
from tower_dspy.patches import configure
from tower_dspy.predictors import Predictors
from tower_dspy.tool_events import ToolEvents

_log = logging.getLogger("tower_dspy.program")


@dataclass(eq=False)
class Program:
    """A DSPy module, or an async function that uses DSPy, ready to be called."""

    call: Any
    schema: schemas.Schema
    # DSPy's settings of each call.
    settings: dict[str, Any]
    # The LMs that a call may choose, by name.
    lms: dict[str, dspy.LM]
    # Whether it is a sync program, which runs on a thread.
    blocking: bool
    carries_http: bool
    replaced_lms: dict[int, dspy.LM]
    predictors: Predictors

    def __post_init__(self) -> None:
        if self.blocking:
            callbacks = self.settings.get("callbacks") or dspy.settings.get("callbacks", [])
            self.settings = {**self.settings, "callbacks": [*callbacks, CHECKPOINT]}
        # All its LMs, with those of its predictors, in the order in which they are tried.
        tried = (self.settings.get("lm"), *self.lms.values(), *self.replaced_lms.values())
        # The host's numbers of them, by the name of the chosen LM.
        self._ids = {name: host_lms.host_ids(lm, *tried) for name, lm in self.lms.items()}
        self._ids[None] = host_lms.host_ids(*tried)
        outputs = self.schema.outputs
        self._text_outputs = outputs and {name for name in outputs if outputs[name].is_text}

    def describe(self) -> dict[str, Any]:
        described = {**self.schema.describe(), "blocking": self.blocking}
        if self.predictors.named:
            described["predictors"] = self.predictors.describe()
        return described

    def entry(self, target: str) -> Callable[[dict[str, Any]], Any]:
        """The function that the runner calls. Its name shows the program in a stack dump."""
        function = type(self).run if self.blocking else type(self).__call__
        name = f"program {target}"
        code = function.__code__.replace(co_name=name, co_qualname=name)
        return types.MethodType(types.FunctionType(code, function.__globals__, name), self)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A call of a sync program."""
        inputs = self.schema.convert(inputs)
        with self._context():
            answer = self.call(**inputs)
        return _outputs(answer)

    async def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = self.schema.convert(inputs)
        with self._context():
            answer = await self.call(**inputs)
        return _outputs(answer)

    def _context(self) -> Any:
        state = CURRENT_CALL.get()
        # Also in DSPy's settings, which it passes to its threads. The trace lives as long as the
        # call: BestOfN and Refine add to it.
        settings = {**self.settings, "tower_dspy_call": state, "trace": []}
        if state is not None:
            name = state.call.lm() if self.lms else None
            if name is not None:
                settings["lm"] = self.lms[name]
            state.outputs = self.schema.outputs
            state.lms = self._ids[name]
            state.carries_http = self.carries_http
            state.replaced_lms = self.replaced_lms
            selection = state.call.stream()
            if selection is not None:
                state.stream = stream = CallStream(
                    state.call, selection, self.predictors, self._text_outputs
                )
                callbacks = settings.get("callbacks") or dspy.settings.get("callbacks", [])
                settings["callbacks"] = [*callbacks, ToolEvents(stream)]
        return dspy.context(**settings)


def load(host: Any, spec: dict[str, Any]) -> Program:
    """Loads the program of a request; raises HostError if that fails."""
    return run_steps(loading_steps(host, spec))


def loading_steps(host: Any, spec: dict[str, Any]) -> Steps[Program]:
    """Loads the program of a request, and returns it, in steps.

    Yields what takes long and needs no loop, as the import of packages and the search for a cloud's
    credentials, for a thread; the loop's thread does all else. No other load goes on meanwhile.
    """
    target = spec["target"]
    # The program's default first.
    given = (config for config in (spec.get("lm"), *spec.get("lms", ())) if config)
    configs = [single for config in given for single in single_configs(config)]
    tools = build_tools(host, spec.get("tools", ()))
    with (
        dspy.context(tower_dspy_tools=tools),
        configure.imported(target.partition(":")[0]) as changed,
    ):
        found = targets.find(spec)
    changed["tower_dspy_tools"] = tools
    # A factory may read the configuration of its module, and change it.
    with dspy.context(**changed), configure.captured() as more:
        built = targets.build(found, target, list(tools.values()))
        if isinstance(built, dspy.Module):
            built = host_lms.with_original_lms(built, target)
        if spec.get("state") is not None:
            _load_state(built, spec["state"], spec.get("trust_pickle", False), bool(configs))
    changed.update(more)
    packages_import = packages.missing(target, (built, changed), configs)
    if packages_import is not None:
        yield packages_import
    named = {}
    for config in spec.get("lms", ()):
        named[config["name"]] = yield from host_lms.building_steps(host, config)
    if spec.get("lm"):
        changed["lm"] = yield from host_lms.building_steps(host, spec["lm"])
    elif named:
        changed["lm"] = next(iter(named.values()))
    elif changed.get("lm") is not None:
        owner = f"`{target}`, by dspy.configure,"
        changed["lm"] = host_lms.take_over(host, changed["lm"], [], owner)
    usual = changed.get("lm")
    if isinstance(built, dspy.Module):
        blocking = _is_blocking(built, target)
        if usual is None and any(predictor.lm is None for predictor in built.predictors()):
            _check_makes_lm(built, target)
        host_lms.assign_lms(built, spec.get("predictor_lms", ()), named, target)
        host_lms.take_over_lms(host, built, configs, usual)
        # From the class: DSPy warns if `forward` is read from an instance.
        forward = type(built).forward if blocking else type(built).aforward
        schema = schemas.of_program(built, forward.__get__(built), target)
        call = built if blocking else built.acall
    else:
        if spec.get("predictor_lms"):
            raise HostError("predictor_lm", f"`{target}` is a function: it has no predictors")
        schema = schemas.of_function(built, target)
        call, blocking = built, False
    replaced_lms = host_lms.replaced_lms(built, usual)
    carries_http = spec.get("carries_http", True)
    predictors = Predictors(built)
    return Program(call, schema, changed, named, blocking, carries_http, replaced_lms, predictors)


def load_function(spec: dict[str, Any]) -> Any:
    """Loads an async function that takes its inputs as keyword arguments."""
    target = spec["target"]
    with configure.imported(target.partition(":")[0]) as changed:
        found = targets.find(spec)
    targets.check_async(found, target)

    def call(inputs: dict[str, Any]) -> Any:
        return found(**inputs)

    async def configured(inputs: dict[str, Any]) -> Any:
        with dspy.context(**changed):
            return await found(**inputs)

    return configured if changed else call


def _is_blocking(program: dspy.Module, target: str) -> bool:
    """Whether a module is called by its `forward`: it has no `aforward` that is as specific.

    A class that overrides `forward` alone inherits an `aforward` that does not match it.
    """
    for owner in type(program).__mro__:
        if "aforward" in vars(owner):
            return False
        if "forward" in vars(owner) and owner is not dspy.Module:
            return True
    raise HostError(
        "not_a_program",
        f"`{target}` has neither `forward` nor `aforward`; give {type(program).__name__} one",
    )


def _check_makes_lm(program: dspy.Module, target: str) -> None:
    """Rejects a program without an LM, unless its own code may make one while it runs."""
    if type(program).__module__.partition(".")[0] == "dspy":
        raise HostError("lm", f"`{target}` has predictors and no LM; load it with `.lm(..)`")
    _log.warning(
        "%s has predictors and was loaded without an LM: its calls fail unless it makes one, as by "
        "dspy.context",
        target,
    )


def _load_state(program: Any, path: str, trust_pickle: bool, has_lm: bool) -> None:
    if not isinstance(program, dspy.Module):
        raise HostError("state", "a function has no state to load")
    if not path.endswith(".json") and not trust_pickle:
        raise HostError(
            "state",
            f"`{path}` is no .json file: a pickle can run any code, so it is loaded by "
            "`state_from_trusted_pickle` only; save the state again with "
            "`program.save('state.json')`",
        )
    if not has_lm:
        host_lms.reject_lost_address(path)
    try:
        program.load(path, allow_pickle=trust_pickle)
    except Exception as error:
        raise HostError("state", f"the state `{path}` does not load: {error!r}") from error


def _outputs(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dspy.Prediction | dict):
        raise HostError(
            "output",
            f"the program returned a {type(answer).__name__}; return a dspy.Prediction or a dict",
        )
    with host_error("output", "the program's answer is not JSON"):
        try:
            return to_json_data(answer)
        except RecursionError as error:
            raise ValueError("it is nested deeper than JSON may be") from error
