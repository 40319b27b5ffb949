"""What a conversation is to a model that remembers nothing: each question with all before it.

The prompt of every turn is rendered from the whole history; the engine finds by itself how much of
it is in its cache. When the history outgrows the context the oldest turns are forgotten for good.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from modelpm.errors import RunnerError
from modelpm.runner.engine import Engine, Finished, Piece, Sampling

MAX_MESSAGES = 10_000
"""Messages of a history: the oldest turns go, whatever the context holds."""


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said: `system`, `user` or `assistant`."""

    role: str
    content: str


Render = Callable[[Sequence[Message]], str]
"""The model's template: from messages to the prompt up to where the answer begins."""


class Conversation:
    """A talk with a loaded engine. Not for several threads, `stop` excepted.

    `opening` are turns before the first question, and forgotten as turns are; `system` never is.
    """

    def __init__(
        self,
        engine: Engine,
        render: Render,
        sampling: Sampling | None = None,
        *,
        system: str = "",
        opening: Sequence[Message] = (),
    ) -> None:
        self.sampling = sampling or Sampling()
        self.system = system
        self.finished: Finished | None = None
        """How the last answer ended; None while there is none, or it was given up."""
        self._engine = engine
        self._render = render
        self._opening = tuple(opening)
        self._turns = list(opening)

    @property
    def history(self) -> tuple[Message, ...]:
        """What the model will be reminded of: the system message, then the turns."""
        return self._after_system(self._turns)

    def ask(self, question: str) -> Generator[str, None, None]:
        """The answer in pieces, as they come. Closing the generator stops the answer.

        What was answered is remembered, whole or not; a question without any answer is not.
        Raises RunnerError, with both counts, when the question alone is longer than the context.
        """
        self.finished = None
        self._turns.append(Message("user", question))
        said: list[str] = []
        try:
            prompt = self._fitting()
            with closing(self._engine.generate(prompt, self.sampling)) as events:
                for event in events:
                    if isinstance(event, Finished):
                        self.finished = event
                    elif isinstance(event, Piece) and event.text:
                        # SentencePiece begins with a space; it belongs to the history alone.
                        shown = event.text if said else event.text.removeprefix(" ")
                        said.append(event.text)
                        yield shown
        finally:
            self._remember("".join(said))

    def stop(self) -> None:
        """End the answer under way. From any thread or signal handler."""
        self._engine.stop()

    def reset(self) -> None:
        """Forget all turns but the opening ones."""
        self._turns = list(self._opening)

    def _remember(self, answer: str) -> None:
        if answer or (self.finished and self.finished.reason != "stopped"):
            self._turns.append(Message("assistant", answer))
        else:
            self._turns.pop()

    def _fitting(self) -> str:
        """The prompt, after as many of the oldest turns are forgotten as it takes."""
        context = self._engine.context_length
        room = min(self.sampling.num_predict or context, context // 4)
        turns = self._turns
        while True:
            prompt = self._render(self._after_system(turns))
            tokens = self._engine.count(prompt)
            fits = len(turns) <= MAX_MESSAGES and tokens <= context - room
            if fits or not (later := _without_oldest(turns)):
                break
            turns = later
        if tokens >= context:
            raise RunnerError(
                f"the question has {tokens} tokens with all that belongs to it, and the context "
                f"only {context} (shorten it, or raise num_ctx)"
            )
        self._turns = turns  # with less room than wanted, a short answer is better than none
        return prompt

    def _after_system(self, turns: Sequence[Message]) -> tuple[Message, ...]:
        head = (Message("system", self.system),) if self.system else ()
        return (*head, *turns)


def _without_oldest(turns: list[Message]) -> list[Message]:
    """The turns from the second question on; none when there is only one question."""
    questions = (n for n, each in enumerate(turns) if n and each.role == "user")
    return turns[next(questions, len(turns)) :]
