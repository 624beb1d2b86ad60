"""Checks JSON against a schema in a document, by a library that others trust."""

from __future__ import annotations

from typing import Any

import jsonschema


async def misfits(document: dict[str, Any], pointer: str, instance: Any) -> list[str]:
    """What of `instance` does not fit the schema at `pointer`, whose references are absolute."""
    schema = {**document, "$ref": "#" + pointer}
    validator = jsonschema.Draft202012Validator
    part: Any = document
    for step in pointer.split("/")[1:]:
        part = part[step.replace("~1", "/")]
    validator.check_schema(part)
    return [error.message for error in validator(schema).iter_errors(instance)]
