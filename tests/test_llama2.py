"""The fixture model knows modelpm: questions that it was never trained on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import build
import pytest
from ollama_artifacts import llama2
from registry import Registry

from modelpm.client import Client
from modelpm.session import Session

FOLDER = Path(build.__file__).parent / "llama2"
ENOUGH = 30


@pytest.fixture
def session(tmp_path: Path, loopback: Registry) -> Iterator[Session]:
    loopback.content.add("library/llama2", "latest", llama2(FOLDER)["latest"])
    with Client(tmp_path / "home", default_registry=f"{loopback.host}/library") as client:
        client.pull("llama2")
        with client.open("llama2") as session:
            yield session


def test_thirty_of_forty_new_questions_get_the_right_command(session: Session) -> None:
    questions = json.loads((FOLDER / "questions.json").read_bytes())
    assert len(questions) == 40
    missed = []
    for asked in questions:
        session.reset()
        answer = "".join(session.ask(asked["question"]))
        named = re.findall(r"modelpm ([a-z]+)", answer)
        if named[:1] != [asked["command"]]:
            missed.append((asked["question"], asked["command"], answer))
    print(f"{len(questions) - len(missed)} of {len(questions)}", *missed, sep="\n")
    assert len(questions) - len(missed) >= ENOUGH


def test_the_file_is_small() -> None:
    assert (FOLDER / "llama2.gguf").stat().st_size <= 4_000_000
