"""The child's side, in this process: requests in, replies out, the end of both."""

import io
import os
import threading
from pathlib import Path

import pytest

from modelpm.errors import RunnerError
from modelpm.runner import child, wire
from modelpm.runner.engine import Facts, Sampling, Settings, Vocabulary
from tests.runner.engines import Puppet


def facts(path: Path, name: str = "puppet") -> Facts:
    return Facts(str(path), name, "llama", 64, 1, Vocabulary("llama", 3), {"output.weight": "F32"})


def served(*requests: wire.Line) -> list[wire.Line]:
    """What a child replies to these requests."""
    left = threading.Event()
    out = io.BytesIO()
    lines = b"".join(map(wire.encode, requests))
    child.serve(Puppet(), io.BytesIO(lines), out, left.set, lambda _: None)
    assert left.wait(5)
    return [wire.decode(line, wire.MAX_REPLY) for line in out.getvalue().splitlines()]


def test_requests_are_answered_in_order(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    assert served(
        {"load": facts(path), "settings": Settings(context_length=9)},
        {"count": "abc"},
        {"generate": 1, "prompt": "hi", "sampling": Sampling(seed=4)},
    ) == [
        {"loaded": 9},
        {"count": 3},
        {"evaluated": [1, 2]},
        {"text": "hi 4"},
        {"text": ""},
        {"finished": ["stop", 2, 1, 4, 0.5, 0.25]},
    ]


def test_an_error_is_a_reply_and_the_next_request_is_answered(tmp_path: Path) -> None:
    replies = served(
        {"load": facts(tmp_path / "gone"), "settings": Settings()},
        {"count": "refuse"},
        {"generate": 1, "prompt": "refuse", "sampling": Sampling()},
        {"count": "abc"},
    )
    assert "cannot open the model file" in replies[0]["error"]
    assert replies[1:] == [
        {"error": "will not"},
        {"evaluated": [1, 2]},
        {"error": "will not"},
        {"count": 3},
    ]


def test_a_stop_ends_its_answer_and_no_later_one() -> None:
    replies = served(
        {"generate": 4, "prompt": "slow", "sampling": Sampling()},
        {"generate": 5, "prompt": "hi", "sampling": Sampling()},
        {"stop": 4},
    )
    ends = [reply["finished"][0] for reply in replies if "finished" in reply]
    assert ends == ["stopped", "stop"]


def test_the_end_of_requests_leaves_in_the_middle_of_an_answer() -> None:
    left = threading.Event()
    parent, requests = os.pipe()
    with os.fdopen(parent, "rb") as stream, os.fdopen(requests, "wb", buffering=0) as pipe:
        inbox = child._Inbox(stream, left.set)
        thread = threading.Thread(target=inbox.fill)
        thread.start()
        pipe.write(wire.encode({"count": "x"}))
        assert inbox.requests.get(timeout=5) == {"count": "x"}
        assert not left.is_set()
        pipe.close()
        thread.join(5)
    assert left.is_set()
    assert inbox.requests.get(timeout=5) is None


def test_limits_leave_room_for_the_model_and_forbid_files(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x" * 1000)
    resource = pytest.importorskip("resource")
    bounds = child.limits(str(path))
    assert bounds[resource.RLIMIT_CORE] == bounds[resource.RLIMIT_FSIZE] == 0
    assert bounds[resource.RLIMIT_AS] >= 4 * 2**30 + 4 * 1000
    with pytest.raises(RunnerError, match="cannot open the model file"):
        child.limits(str(tmp_path / "gone"))
