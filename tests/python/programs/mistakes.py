"""Targets that a host cannot make a program of."""

import dspy


class TakesArguments(dspy.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    async def aforward(self, question: str) -> dict[str, str]:
        return {"answer": question}


def returns_a_text() -> str:
    return "no module"
