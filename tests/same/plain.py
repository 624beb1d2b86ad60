"""The plain side: each program of the corpus as a colleague would run it, with no host.

The rows come on stdin as JSON; for each form of a program one line goes to stdout. Two settings
differ from DSPy's own: its cache is off, and rows follow each other in one process, so what one
configures is put back before the next.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import sys
from typing import Any

import dspy
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
CONFIGURED = importlib.import_module("dspy.dsp.utils.settings").main_thread_config
UNCONFIGURED = dict(CONFIGURED)


def main() -> None:
    jobs = json.load(sys.stdin)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for job in jobs:
        forms = ["async", "sync"]
        for form in list(forms):
            CONFIGURED.clear()
            CONFIGURED.update(UNCONFIGURED)
            told = {"row": job["row"], "form": form}
            try:
                program = load(job, form)
            except Exception as error:
                forms = ["async"]
                told |= {"natural": True, "not_loaded": f"{type(error).__name__}: {error}"}
            else:
                forms = forms_of(program)
                if form not in forms:
                    continue
                told |= {"natural": form == forms[0], **outcome(loop, program, form, job["inputs"])}
            print("same:", json.dumps(told), flush=True)
            if len(forms) == 1:
                break


def load(job: dict[str, Any], form: str) -> Any:
    """The program, built from its module with the server's address for this side and row."""
    module = importlib.import_module(job[form]["module"])
    if lm := job[form]["lm"]:
        dspy.configure(lm=dspy.LM(**lm))
    found = getattr(module, job["program"])
    if isinstance(found, type) and issubclass(found, dspy.Signature):
        found = dspy.Predict(found)
    elif not isinstance(found, dspy.Module) and not inspect.iscoroutinefunction(found):
        found = found()
    if job["state"]:
        found.load(job["state"])
    return found


def forms_of(program: Any) -> list[str]:
    """By what a program may be called, the newest of its `aforward` and `forward` first."""
    if not isinstance(program, dspy.Module):
        return ["async"]
    forms = []
    for owner in type(program).__mro__:
        if owner is dspy.Module:
            break
        for name, form in (("aforward", "async"), ("forward", "sync")):
            if name in vars(owner) and form not in forms:
                forms.append(form)
        # A class that overrides `forward` alone inherits an `aforward` that is another program.
        if forms:
            break
    return forms


def outcome(loop: Any, program: Any, form: str, inputs: dict[str, Any]) -> dict[str, Any]:
    function = program
    if isinstance(program, dspy.Module):
        function = program.acall if form == "async" else program
    try:
        inputs = typed(program, form, inputs)
        if form == "async":
            answer = loop.run_until_complete(asyncio.wait_for(function(**inputs), 60))
        else:
            answer = function(**inputs)
        fields = dict(answer.items()) if isinstance(answer, dspy.Prediction) else answer
        return {"outputs": to_json(fields)}
    except Exception as error:
        return {"error": failure(error), "wrapped": failure(wrapped(error))}


def failure(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "status": getattr(error, "status", None),
        "retry_after": getattr(error, "retry_after", None),
        "message": to_json(str(error)[:400]),
    }


def wrapped(error: BaseException) -> dspy.LMError | None:
    """The failure of an LM that another exception wraps: a caller may be told of it instead."""
    inner = [*getattr(error, "exceptions", ()), error.__cause__, error.__context__]
    for one in inner:
        if one is not None:
            found = one if isinstance(one, dspy.LMError) else wrapped(one)
            if found is not None:
                return found
    return None


def typed(program: Any, form: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs in the types of the program's fields, as a colleague passes them."""
    annotations = {}
    called = program
    if isinstance(program, dspy.Module):
        # From the class: DSPy warns where a module's own is asked for.
        called = type(program).aforward if form == "async" else type(program).forward
        called = called.__get__(program)
    try:
        parameters = inspect.signature(called, eval_str=True).parameters
    except NameError:
        # An annotation that only a type checker knows.
        return inputs
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        signature = getattr(program, "signature", None) or program.predictors()[0].signature
        annotations = {name: info.annotation for name, info in signature.input_fields.items()}
    else:
        annotations = {
            name: parameter.annotation
            for name, parameter in parameters.items()
            if parameter.annotation is not parameter.empty
        }
    return {
        name: TypeAdapter(annotations[name]).validate_json(json.dumps(value))
        if name in annotations and annotations[name] is not str
        else value
        for name, value in inputs.items()
    }


def to_json(value: Any) -> Any:
    """The answer as JSON. An image is its fields, not the text that stands for it in a prompt."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [to_json(item) for item in value]
    if isinstance(value, dspy.Type) and isinstance(value.format(), list):
        return {name: to_json(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, str):
        # JSON that Rust reads has no half of a surrogate pair.
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return to_jsonable_python(value)


main()
