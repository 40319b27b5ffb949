"""A model that was pulled answers, is stopped, is refused, or takes its engine down."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import bad
import build
import pytest
from artifact import described, image
from gguf_writer import tiny_llama
from ollama_artifacts import llama2
from registry import Registry

from modelpm.client import Client
from modelpm.errors import ModelError, RunnerError
from modelpm.model.gguf import Header
from modelpm.model.roles import Role
from modelpm.session import facts_of

FIXTURES = Path(build.__file__).parent
QUESTION = "how do I free disk space?"
TITLE = "org.opencontainers.image.title"


@pytest.fixture
def client(tmp_path: Path, loopback: Registry) -> Iterator[Client]:
    """A client with the fixture model llama2 and its terse sister."""
    for tag, artifact in llama2(FIXTURES / "llama2").items():
        loopback.content.add("library/llama2", tag, artifact)
    registry = f"{loopback.host}/library"
    with Client(tmp_path / "home", default_registry=registry) as client:
        yield client


def test_llama2_answers(client: Client) -> None:
    client.pull("llama2")
    with client.open("llama2") as session:
        answer = "".join(session.ask(QUESTION))
        assert "modelpm prune" in answer
        assert session.finished is not None
        assert session.finished.reason == "stop"
        first = session.finished
        assert "modelpm list" in "".join(session.ask("which models do I have here?"))
        assert session.finished.reused_tokens >= first.prompt_tokens
        session.reset()
        assert "".join(session.ask(QUESTION)) == answer


def test_parameters_and_system_go_before_the_models_own(client: Client) -> None:
    client.pull("llama2")
    with client.open("llama2", parameters={"num_predict": 2}) as session:
        "".join(session.ask(QUESTION))
        assert session.finished is not None
        assert (session.finished.reason, session.finished.answer_tokens) == ("length", 2)
        prompt_tokens = session.finished.prompt_tokens
    with client.open("llama2", parameters={"num_predict": 2}, system="") as session:
        "".join(session.ask(QUESTION))
        assert session.finished is not None
        assert session.finished.prompt_tokens < prompt_tokens
    with pytest.raises(RunnerError, match="temperature"):
        client.open("llama2", parameters={"temperature": "hot"})


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_every_dialect_runs(name: str, client: Client, loopback: Registry) -> None:
    loopback.content.add(f"library/{name}", "latest", build.LAYOUTS[name]())
    roles = {part.role for part in client.pull(name).parts}
    if Role.ADAPTER in roles:
        with pytest.raises(RunnerError, match="the engine does not use its adapter"):
            client.open(name)
        return
    with client.open(name, parameters={"num_predict": 4, "seed": 1}) as session:
        "".join(session.ask("hello"))
        assert session.finished is not None
        assert session.finished.answer_tokens > 0


def with_companion(loopback: Registry, kind: str) -> None:
    """Serve weights with a second file, as `more`."""
    kinds = {"model": tiny_llama(), kind: b"of any content"}
    layers = [described(f"application/vnd.ollama.image.{k}", c) for k, c in kinds.items()]
    config = described("application/vnd.docker.container.image.v1+json", b"{}")
    loopback.content.add("library/more", "latest", image(config, layers, [b"{}", *kinds.values()]))


def test_an_adapter_that_the_engine_would_leave_out_is_told(
    client: Client, loopback: Registry
) -> None:
    with_companion(loopback, "adapter")
    client.pull("more")
    with pytest.raises(RunnerError, match=r"does not use its adapter .adapter\.gguf") as caught:
        client.open("more")
    assert "modelpm export more:latest DIR" in str(caught.value)
    assert "--lora DIR/adapter.gguf" in str(caught.value)


def test_a_draft_changes_no_answer_and_keeps_nobody_from_asking(
    client: Client, loopback: Registry
) -> None:
    with_companion(loopback, "draft")
    client.pull("more")
    with client.open("more", parameters={"num_predict": 4, "seed": 1}) as session:
        assert "".join(session.ask("hello"))


def test_weights_in_several_files_are_not_run(client: Client, loopback: Registry) -> None:
    loopback.content.add("library/two", "latest", build.WRITERS["modelpack-shards"].make())
    client.pull("two")
    with pytest.raises(RunnerError, match="the weights are 2 files, and the engine loads one"):
        client.open("two")


def test_an_answer_is_stopped(client: Client) -> None:
    client.pull("llama2")
    parameters = {"temperature": 1.5, "num_predict": 400, "stop": []}
    with client.open("llama2", parameters=parameters) as session:
        answer = session.ask(QUESTION)
        next(answer)
        session.stop()
        begin = time.monotonic()
        "".join(answer)
        assert time.monotonic() - begin < 1
        assert session.finished is not None
        assert session.finished.reason in ("stopped", "stop")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("engine-bpe-vocabulary.gguf", "BPE vocabulary"),
        ("engine-tied-output.gguf", "no output weights"),
    ],
)
def test_what_the_engine_cannot_run_is_refused(
    file: str, reason: str, client: Client, loopback: Registry
) -> None:
    _offer(loopback, (FIXTURES / "bad" / file).read_bytes())
    client.pull("offered")
    with pytest.raises(RunnerError, match=reason) as caught:
        client.open("offered")
    assert "llama-cli" in str(caught.value)
    assert caught.value.exit_code == 9


@pytest.mark.parametrize(
    "case", [case for case in bad.CASES if case.stage == "gate"], ids=lambda case: case.name
)
def test_what_does_not_pass_the_gate_is_never_loaded(
    case: bad.Case, client: Client, loopback: Registry
) -> None:
    _offer(loopback, case.content())
    client.pull("offered")
    with pytest.raises(ModelError) as caught:
        client.open("offered")
    assert caught.value.exit_code == 9


def test_a_closed_session_leaves_no_process(client: Client) -> None:
    client.pull("llama2")
    with client.open("llama2") as session:
        pid = session.pid
        assert pid is not None
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_model_in_use_is_not_collected(client: Client) -> None:
    client.pull("llama2")
    with client.open("llama2") as session:
        client.remove(["llama2"])
        assert not client.garbage()
        assert "modelpm prune" in "".join(session.ask(QUESTION))
    assert client.garbage().size > 1_000_000


def test_a_store_that_may_only_be_read_is_used_as_it_is(client: Client) -> None:
    client.pull("llama2")
    (client.home / "modelpm.json").write_text('{"version":99}')  # to be read only
    with client.open("llama2") as session:
        assert "modelpm prune" in "".join(session.ask(QUESTION))


def test_the_facts_of_a_file_are_those_of_its_header(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_llama())
    facts = facts_of(Header.read(path), path, "tiny")
    assert (facts.architecture, facts.name, facts.path) == ("llama", "tiny", str(path))
    assert (facts.vocabulary.kind, facts.vocabulary.byte_tokens) == ("llama", True)
    assert facts.vocabulary.control["</s>"] == facts.vocabulary.eos
    assert set(facts.tensors.values()) <= {"F32", "Q8_0"}


def _offer(loopback: Registry, weights: bytes) -> None:
    layers = [("application/vnd.ollama.image.model", weights)]
    loopback.content.add_artifact("library/offered", "latest", layers)
