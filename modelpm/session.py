"""What a model's layers and its file's header say, in the words that an engine needs.

The runner and the model know nothing of each other; a `Session` is where they meet.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from modelpm.errors import RunnerError
from modelpm.installed import Installed
from modelpm.model import template
from modelpm.model.chat_formats import from_jinja
from modelpm.model.ggml import TENSOR_TYPES
from modelpm.model.gguf import Header, special_tokens, tokens
from modelpm.model.roles import Role
from modelpm.runner import chat, ctransformers, engine
from modelpm.runner.worker import Worker

_BYTE_TOKEN = b"<0x0A>"


class Session:
    """A talk with an installed model, in a child process. Not for several threads."""

    def __init__(
        self,
        model: Installed,
        worker: Worker,
        conversation: chat.Conversation,
        stack: contextlib.ExitStack,
    ) -> None:
        self.model = model
        self._worker = worker
        self._conversation = conversation
        self._stack = stack

    @classmethod
    def open(
        cls,
        model: Installed,
        parameters: Mapping[str, object],
        system: str | None,
    ) -> Self:
        """Start an engine and load the model into it.

        `parameters` and `system` go before the model's own. Raises ModelError for a file that does
        not pass the gate, RunnerError for a model that the engine cannot run, and the errors
        of reading its parts.
        """
        with contextlib.ExitStack() as stack:
            worker = Worker()
            stack.callback(worker.close)
            worker.start()  # it gets ready while the header is read
            stack.enter_context(model.held())
            return cls(model, worker, cls._load(worker, model, parameters, system), stack.pop_all())

    @classmethod
    def _load(
        cls,
        worker: Worker,
        model: Installed,
        parameters: Mapping[str, object],
        system: str | None,
    ) -> chat.Conversation:
        parts = model.model
        _refuse_adapter(model)
        path = model.path
        if len(parts.shards) > 1:
            raise RunnerError(
                f"{model.short_name}: the weights are {len(parts.shards)} files, and the engine "
                "loads one (modelpm export gives them to engines that load several)"
            )
        header = Header.read(path)
        facts = facts_of(header, path, model.short_name)
        ctransformers.check(facts)
        text, stops = _template(parts.template, parts.chat_template or header.chat_template)
        merged = {"stop": stops, **parts.parameters, **parameters}
        worker.load(facts, engine.Settings.from_parameters(merged))
        return chat.Conversation(
            worker,
            lambda messages: _render(text, messages),
            engine.Sampling.from_parameters(merged),
            system=parts.system or "" if system is None else system,
            opening=tuple(chat.Message(each.role, each.content) for each in parts.messages),
        )

    @property
    def finished(self) -> engine.Finished | None:
        """How the last answer ended, with its counts and seconds; None while there is none."""
        return self._conversation.finished

    @property
    def pid(self) -> int | None:
        """The engine's process, while there is one."""
        return self._worker.pid

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces, as they come; it and the question are remembered.

        Raises RunnerError when the engine dies, or the text is longer than the context.
        """
        return self._conversation.ask(text)

    def stop(self) -> None:
        """End the answer under way. From any thread or signal handler."""
        self._conversation.stop()

    def reset(self) -> None:
        """Forget the talk."""
        self._conversation.reset()

    def close(self) -> None:
        """End the engine and let go of the model's files. May be called twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _refuse_adapter(model: Installed) -> None:
    """Raise RunnerError for a model that answers otherwise than its weights alone.

    A draft is no reason: it makes answers come sooner, and they are the same without it.
    """
    name = model.short_name
    for part in model.parts:
        if part.role is Role.ADAPTER:
            raise RunnerError(
                f"{name}: the engine does not use its adapter ({part.name}), and would answer"
                f" without it (modelpm export {name} DIR gives it to one that does, as llama.cpp:"
                f" llama-cli -m WEIGHTS --lora DIR/{part.name})"
            )


def _template(go: str | None, jinja: str | None) -> tuple[str, tuple[str, ...]]:
    """The template in Go's language, and the stop strings that go with it.

    A Jinja template stands for the known format that it is; one that is not known for none.
    """
    if go is None and jinja is not None and (known := from_jinja(jinja)) is not None:
        return known.template, known.stop
    text = template.DEFAULT if go is None else go
    template.check(text)
    return text, ()


def _render(text: str, messages: Sequence[chat.Message]) -> str:
    return template.render(text, [template.Message(each.role, each.content) for each in messages])


def facts_of(header: Header, path: Path, name: str) -> engine.Facts:
    """What an engine must know of a model file, from its header. Raises ModelError."""
    prefix = header.architecture
    scaling = header.metadata.get(f"{prefix}.rope.scaling.type", "none")
    factor = header.metadata.get(f"{prefix}.rope.scaling.factor", 1.0)
    return engine.Facts(
        path=str(path),
        name=name,
        architecture=prefix,
        context_length=header.context_length or 0,
        block_count=header.block_count or 0,
        vocabulary=_vocabulary(header, path),
        tensors={tensor.name: TENSOR_TYPES[tensor.type].name for tensor in header.tensors},
        expert_count=header.size_of("expert_count") or 0,
        rope_scaling=scaling if isinstance(scaling, str) else "unknown",
        rope_scaling_factor=float(factor) if isinstance(factor, int | float) else 0.0,
    )


def _vocabulary(header: Header, path: Path) -> engine.Vocabulary:
    kind = header.vocabulary or ""
    if kind != "llama":  # no engine here reads further, and these vocabularies are long
        return engine.Vocabulary(kind, header.vocabulary_size)
    return engine.Vocabulary(
        kind=kind,
        size=header.vocabulary_size,
        bos=header.bos,
        eos=header.eos,
        stops=tuple(sorted(header.stop_tokens)),
        control={
            token.text.decode("utf-8", "replace"): token.id
            for token in special_tokens(path, header)
        },
        add_bos=header.adds_bos,
        add_space_prefix=header.adds_space_prefix,
        scores="tokenizer.ggml.scores" in header.metadata,
        types="tokenizer.ggml.token_type" in header.metadata,
        byte_tokens=_BYTE_TOKEN in tokens(path, header),
    )
