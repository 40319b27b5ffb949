"""Every error that modelpm raises, and the exit code each one means.

    ModelPMError                    1
    ├── InvalidReferenceError       2   a name, tag or digest outside its grammar
    ├── ContentError                5   bytes that are not what was asked for
    │   ├── NotFoundError           3
    │   ├── DigestMismatchError     5
    │   └── InvalidManifestError    5
    ├── StoreError                  7   disk, permission, lock or layout
    ├── RegistryError               6   the protocol, the network, or a limit
    │   └── AuthenticationError     4
    ├── ModelError                  9   an artifact or a file that is no usable model
    └── RunnerError                 9   an engine that cannot run it, or that died

A message says what was attempted, on which side, on what object, and what to do next.
Text that came from outside is in the message as it came: whoever prints it escapes it.
"""

from typing import ClassVar


class ModelPMError(Exception):
    """The root. Catch this, and nothing that modelpm foresees gets past."""

    exit_code: ClassVar[int] = 1


class InvalidReferenceError(ModelPMError):
    """A name, tag or digest outside its grammar (distribution spec, "Pulling manifests")."""

    exit_code = 2


class ContentError(ModelPMError):
    """Bytes that are not what was asked for."""

    exit_code = 5


class NotFoundError(ContentError):
    """Nothing there under this name or digest, or not for us to see."""

    exit_code = 3


class DigestMismatchError(ContentError):
    """The bytes that arrived have another digest or size than the descriptor says."""


class InvalidManifestError(ContentError):
    """A manifest, index or descriptor that the image spec forbids, or past our limits."""


class StoreError(ModelPMError):
    """The local store cannot do it: disk, permission, lock, layout or damage."""

    exit_code = 7


class RegistryError(ModelPMError):
    """A registry or the network did not do its part.

    `status` is the HTTP status, or 0 when there was no answer; `code` is the registry's own
    error code (distribution spec, "Error Codes"), or "".
    """

    exit_code = 6

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AuthenticationError(RegistryError):
    """The registry wants other credentials than it was given."""

    exit_code = 4


class ModelError(ModelPMError):
    """An artifact without a usable model, or a model file that breaks its format's rules."""

    exit_code = 9


class RunnerError(ModelPMError):
    """An engine refused the model, or died while it ran it."""

    exit_code = 9
