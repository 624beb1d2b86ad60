"""What is done without this crate: the stream of `dspy.streamify`, whose reader leaves.

Run: python -I walk_away.py BASE_URL MODEL QUESTION PIECES

It prints a line when the reader has left, and lives on until its stdin ends, as a server does.
"""

import sys

import dspy
from dspy.streaming import StreamListener


def main() -> None:
    base_url, model, question, pieces = sys.argv[1:]
    ask = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[StreamListener(signature_field_name="answer")],
        async_streaming=False,
    )
    lm = dspy.LM(f"openai/{model}", api_base=base_url, api_key="none", cache=False)
    with dspy.context(lm=lm):
        stream = ask(question=question)
        for _ in range(int(pieces)):
            next(stream)
        stream.close()
    print("left", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
