"""A record of the environment variables in which litellm looks for a secret.

litellm has no table of them: each of its providers looks its own variables up, through one
function. While they are recorded, that function reads the environment through a proxy, in which no
key is set: a key stays with the host.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# How the names of variables end that hold a key.
_KEYS = ("_KEY", "_TOKEN", "_JWT")
# Variables of credentials that a library signs with; they are no key to send.
_SIGNING = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_NAMES: "ContextVar[list[str] | None]" = ContextVar("tower_dspy_secrets", default=None)


def is_key(name: str) -> bool:
    """Whether a variable of this name holds a key to send."""
    return name.endswith(_KEYS) and name not in _SIGNING


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Yields a list that holds, at the end, the variables which this context has looked up."""
    # Here, as few programs need litellm.
    from litellm.secret_managers import main

    names: list[str] = []
    token = _NAMES.set(names)
    main.os = _Os()
    try:
        yield names
    finally:
        main.os = os
        _NAMES.reset(token)


class _Environ:
    """The environment, for one function of litellm."""

    def get(self, name: str, default: Any = None) -> Any:
        names = _NAMES.get()
        if names is not None:
            names.append(name)
            if is_key(name):
                return default
        return os.environ.get(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(os.environ, name)


class _Os:
    """The module `os`, for one function of litellm."""

    environ = _Environ()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
