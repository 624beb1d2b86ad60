"""Configures an LM of its own, with retries and a cache."""

import dspy

import witness

dspy.configure(
    lm=dspy.LM(
        "openai/configured", api_base=witness.lm_url, api_key="own-key", num_retries=3, cache=True
    )
)

qa = dspy.Predict("question -> answer")
