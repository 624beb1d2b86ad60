"""The corpus of Rust's parsers of fields: its values are those that DSPy's adapters parse."""

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from tower_dspy import payload

CORPUS = Path(__file__).parents[2] / "stream" / "fields" / "corpus.json"
ROWS = json.loads(CORPUS.read_text(encoding="utf-8"))

ADAPTERS = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter(), "xml": dspy.XMLAdapter()}
TYPES = {"str": str, "int": int, "list[str]": list[str], "dict[str, str]": dict[str, str]}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['format']}: {row['name']}")
def test_the_adapter_parses_the_values_of_the_corpus(row: dict[str, Any]) -> None:
    assert _parse(row) == row["values"]


def _parse(row: dict[str, Any]) -> dict[str, Any] | None:
    """The fields as the host gets them; None if the adapter refuses the text."""
    outputs = {name: (TYPES[type_], dspy.OutputField()) for name, type_ in row["fields"]}
    signature = dspy.Signature({"question": (str, dspy.InputField()), **outputs})
    try:
        values = ADAPTERS[row["format"]].parse(signature, row["text"])
    except AdapterParseError:
        return None
    return {
        name: payload.to_utf8(value).decode() if isinstance(value, str) else value
        for name, value in values.items()
    }
