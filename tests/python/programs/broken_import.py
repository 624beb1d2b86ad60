"""Fails while it is imported."""

import no_such_library_at_all  # noqa: F401
