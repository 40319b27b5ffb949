"""An import that waits until somebody uses it: for what a library imports and we never need."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["postponed"]


@contextlib.contextmanager
def postponed(name: str) -> Iterator[None]:
    """Within the context imports of a module cost nothing until an attribute of it is asked for.

    Who imports it afterwards gets the module itself: only what was imported within knows its
    stand-in. Does nothing where it is loaded already, or is not there: then the import says so.
    """
    if name in sys.modules or importlib.util.find_spec(name) is None:
        yield
        return
    standin = ModuleType(name)

    def load(attribute: str) -> Any:
        """Called for what the stand-in does not have (PEP 562): all of the module."""
        return getattr(importlib.import_module(name), attribute)

    vars(standin)["__getattr__"] = load
    sys.modules[name] = standin
    try:
        yield
    finally:
        if sys.modules.get(name) is standin:
            del sys.modules[name]
