"""A program that imports a module beside it as if its folder were searched."""

import helpers_of_qa  # noqa: F401
