"""The package manager for AI models: what `import modelpm` promises.

Everything is loaded on first use, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelpm.client import Client as Client
    from modelpm.errors import ModelPMError as ModelPMError

__version__ = "0.1.0"
__all__ = ["Client", "ModelPMError", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from modelpm.client import Client  # noqa: PLC0415 - lazy: start-up time

        return Client
    if name == "ModelPMError":
        from modelpm.errors import ModelPMError  # noqa: PLC0415 - lazy: start-up time

        return ModelPMError
    raise AttributeError(f"module 'modelpm' has no attribute {name!r}")
