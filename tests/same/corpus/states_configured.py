"""A saved state for a program that configures its LM itself."""

import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-state", api_base="http://lm.test/v1"))


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.check = dspy.ChainOfThought("question, draft -> answer")

    def forward(self, question: str):
        draft = self.draft(question=question).answer
        return self.check(question=question, draft=draft)


def instructed() -> dspy.Module:
    """A factory that changes what it builds."""
    program = Program()
    program.draft.signature = program.draft.signature.with_instructions("Be brief.")
    program.draft.demos = [dspy.Example(question="1+1?", answer="2")]
    return program
