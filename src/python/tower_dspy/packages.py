"""The packages that a program needs and that DSPy imports on first use: litellm and numpy.

litellm takes some seconds to import, and to make its first request, which imports most of it. The
first call of a program would pay for that, and all other calls would wait for the loop meanwhile.
Which programs need it is found without running them: by the LMs and the embedders that they hold,
or that their code names. An LM or an embedder that a program makes while it runs is not found, nor
that of a module that it imports only then.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import dspy
from dspy.clients import embedding
from dspy.clients._litellm import get_litellm
from dspy.clients.backend_selection import select_backend

from tower_dspy import lm_address
from tower_dspy.faults import HostError
from tower_dspy.reachable import reachable


def missing(target: str, roots: Iterable[Any], configs: Any) -> Callable[[], None] | None:
    """The import of the packages that are needed and not imported yet; None if there are none.

    It needs no loop, and raises HostError for a package that is not installed. `roots` are the
    program and the LMs and embedders that it configured, `configs` those of the host's LMs.
    """
    held = reachable(roots, (dspy.Embedder, dspy.BaseLM), target.partition(":")[0])
    found = [*held, *map(_configured, configs)]
    embedders = [one for one in found if issubclass(type(one), dspy.Embedder)]
    imports = []
    if embedders and not _is_imported("numpy"):
        imports.append(functools.partial(_import_numpy, target))
    by_litellm = [one for one in found if _needs_litellm(one)]
    if by_litellm and not _is_imported("litellm"):
        imports.append(functools.partial(_import_litellm, target))
        imports.extend(functools.partial(_try, one) for one in by_litellm)

    def import_all() -> None:
        for import_package in imports:
            import_package()

    return import_all if imports else None


def _is_imported(name: str) -> bool:
    """Whether a package is imported to its end; another thread may be importing it."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name in sys.modules and not getattr(spec, "_initializing", False)


def _import_numpy(target: str) -> None:
    try:
        embedding.np.ndarray  # noqa: B018, imports it
    except ImportError as error:
        raise HostError(
            "package",
            f"`{target}` has a dspy.Embedder, which needs numpy, and numpy is not installed: "
            "pip install numpy",
        ) from error


def _import_litellm(target: str) -> None:
    try:
        get_litellm(feature=f"`{target}`")
    except ImportError as error:
        raise HostError("package", str(error)) from error


def _try(found: Any) -> None:
    """Makes a request of an LM, which is not sent; unless it would look for its credentials."""
    if not isinstance(found, dspy.LM) or lm_address.is_of_cloud(found):
        return
    with contextlib.suppress(Exception):  # the load or the call reports it
        tried = found.copy(num_retries=0, cache=False, api_key="unused")
        # Those of the program would take it for a call.
        tried.callbacks = []
        lm_address.requested(tried)


def _configured(config: dict[str, Any]) -> dspy.LM | None:
    """The LM of a host's configuration, to ask whose client it needs."""
    try:
        lm = dspy.LM(config["model"], **config.get("options", {}))
    except Exception:  # the load reports it
        return None
    if config.get("base_url"):
        lm.kwargs["api_base"] = config["base_url"]
    return lm


def _needs_litellm(found: Any) -> bool:
    """Whether DSPy calls this LM or embedder by litellm."""
    try:
        if isinstance(found, dspy.Embedder):
            return isinstance(found.model, str)
        is_dspys = isinstance(found, dspy.LM) and isinstance(found.engine, str)
        return is_dspys and not select_backend(found).native
    except Exception:  # its load or its call reports it
        return False
