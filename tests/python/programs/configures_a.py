"""Configures DSPy when it is imported, as a script would."""

import dspy

dspy.configure(adapter=dspy.JSONAdapter(), flavour="a")


async def settings():
    adapter = type(dspy.settings.adapter).__name__
    return {"flavour": dspy.settings.get("flavour"), "adapter": adapter}


qa = dspy.Predict("question -> answer")
