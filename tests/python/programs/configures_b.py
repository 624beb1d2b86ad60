"""Configures DSPy as well, otherwise."""

import dspy

dspy.configure(flavour="b", async_max_workers=3)


async def settings():
    adapter = type(dspy.settings.adapter).__name__
    return {"flavour": dspy.settings.get("flavour"), "adapter": adapter}
