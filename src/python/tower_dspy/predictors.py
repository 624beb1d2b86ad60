"""The predictors of a program by their names, and the text fields of signatures."""

from typing import Any

import dspy


def is_text(annotation: Any) -> bool:
    """Whether a field of this type is the text of an LM as it stands."""
    return annotation is str or annotation is dspy.Reasoning


class Predictors:
    """The predictors that a program has when it is loaded; none of a function."""

    def __init__(self, program: Any) -> None:
        is_module = isinstance(program, dspy.Module)
        self.named: list[tuple[str, Any]] = program.named_predictors() if is_module else []
        # `named` references the predictors, so these ids stay unique.
        self._by_id = {id(predictor): name for name, predictor in self.named}
        # A copy keeps the stage: BestOfN and Refine call copies.
        self._by_stage = {
            predictor.stage: name
            for name, predictor in reversed(self.named)
            if hasattr(predictor, "stage")
        }

    def name(self, module: Any) -> str:
        """The name of a predictor or of its copy; the class of a module that is neither."""
        name = self._by_id.get(id(module)) or self._by_stage.get(getattr(module, "stage", None))
        return name or type(module).__name__

    def describe(self) -> list[dict[str, Any]]:
        """The names of the predictors and of their text fields."""
        return [
            {
                "name": name,
                "fields": [
                    field
                    for field, info in predictor.signature.output_fields.items()
                    if is_text(info.annotation)
                ],
            }
            for name, predictor in self.named
        ]
