"""What a source has under a descriptor, without its weights."""

import pytest

from modelpm.content import MAX_NESTING
from modelpm.errors import ModelError, NotFoundError
from modelpm.offered import Offered
from tests.memory import Memory


def test_the_one_model_below_indexes_is_found() -> None:
    memory = Memory()
    image = memory.image(b"weights")
    offered = Offered(memory, memory.index(memory.index(image)), "host/name:tag", "name:tag")
    assert (offered.digest, offered.size) == (image.digest, len(b"weights") + 2)
    assert (offered.name, offered.short_name) == ("host/name:tag", "name:tag")
    assert (offered.path, offered.modified) == (None, "")
    assert len(memory.fetched) == 3


def test_what_lies_too_deep_is_not_found() -> None:
    memory = Memory()
    deep = memory.image(b"weights")
    for _ in range(MAX_NESTING):
        deep = memory.index(deep)
    with pytest.raises(NotFoundError, match=f"within {MAX_NESTING} indexes"):
        Offered(memory, deep)
    with pytest.raises(NotFoundError, match="has no model"):
        Offered(memory, memory.index())


def test_what_is_no_model_can_be_had_but_not_read_as_one() -> None:
    memory = Memory()
    config = b'{"architecture":"amd64","rootfs":{}}'
    offered = Offered(memory, memory.image(config=config))
    assert offered.manifest.config is not None
    with pytest.raises(ModelError):
        _ = offered.parts
