"""A program whose package is not installed."""

import sklearn  # noqa: F401
