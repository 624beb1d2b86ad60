"""Tries to configure DSPy for everybody, in the middle of a call."""

import dspy


async def late():
    dspy.configure(flavour="late")


async def flavour():
    return {"flavour": dspy.settings.get("flavour")}
