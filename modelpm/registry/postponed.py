"""An import that waits until somebody uses it: for what a library imports and we never need."""

import importlib.util
import sys
import threading
from typing import Any

__all__ = ["postpone"]


def postpone(name: str) -> None:
    """Have imports of a module cost nothing until an attribute of it is asked for.

    Does nothing where it is loaded already, or is not there: then the import itself says so.
    (importlib's LazyLoader would not do: the second `import` asks for an attribute.)
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader, lock = spec.loader, threading.RLock()
    module = importlib.util.module_from_spec(spec)

    def load(attribute: str) -> Any:
        """Called for what the module does not have (PEP 562)."""
        with lock:
            if vars(module).pop("__getattr__", None) is not None:
                loader.exec_module(module)
        try:
            return vars(module)[attribute]
        except KeyError:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}") from None

    vars(module)["__getattr__"] = load
    sys.modules[name] = module
