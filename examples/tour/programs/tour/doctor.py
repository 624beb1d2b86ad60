"""What the interpreter that really runs says of itself."""

import platform
import sys

import dspy


async def about() -> dict[str, str]:
    """Its version, DSPy's version, and the venv that it took DSPy from."""
    return {
        "python": platform.python_version(),
        "dspy": dspy.__version__,
        "venv": sys.prefix,
    }
