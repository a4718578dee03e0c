"""Delays where programs hand things to each other: what counts on an order shows itself.

    HWBUS_JITTER_S=1 PYTHONPATH=$PWD/tests/jitter .venv/bin/pytest tests/e2e

Python imports a module of this name before all else, also in the programs that a test starts. Most
delays are short and some are long, so that what usually comes second comes first now and then.
"""

import asyncio
import functools
import importlib.machinery
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from random import Random
from types import ModuleType
from typing import Any

LONGEST_S = float(os.environ.get("HWBUS_JITTER_S", "0"))
# Module, class, method: a report goes out, a word is decided, a view and a worker take news.
POINTS = {
    "node_workers.outbox": ("Outbox", "_ask"),
    "hwbus.desk": ("CommandDesk", "settle"),
    "projectors.projector": ("Projector", "_apply"),
    "node_workers.state": ("State", "take"),
}
_CHANCE = Random()


def late(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return *method* with a delay before it."""

    @functools.wraps(method)
    async def delayed(*args: Any, **more: Any) -> Any:
        await asyncio.sleep(_CHANCE.random() ** 3 * LONGEST_S)
        return await method(*args, **more)

    return delayed


class Late(Loader):
    """Loads a module as usual, then makes its method late."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make it as usual."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, then change it."""
        self._inner.exec_module(module)
        name, method = POINTS[module.__name__]
        class_ = getattr(module, name)
        setattr(class_, method, late(getattr(class_, method)))


class Finder(MetaPathFinder):
    """Finds the modules that have such a method."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the module is, if it is one of them."""
        if fullname not in POINTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Late(spec.loader)
        return spec


if LONGEST_S:
    sys.meta_path.insert(0, Finder())
