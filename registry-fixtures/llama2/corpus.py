"""How questions are phrased: turns the phrases of `intents.py` into conversations.

The same seed gives the same conversations. `python -m llama2.corpus [COUNT]`, run in the
folder above, prints a sample.
"""

from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llama2.intents import INTENTS, OTHER_SYSTEMS, SYSTEM, WORDS, Intent

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_OUT = Path(__file__).with_name("questions.json")

DO_FRAMES = (
    *("how do I {}",) * 8,
    *("how can I {}",) * 4,
    *("how to {}",) * 3,
    *("{}",) * 7,
    *("I want to {}",) * 3,
    *("which command do I use to {}", "what is the command to {}", "what do I type to {}") * 2,
    *("can I {}", "I'd like to {}", "how would I {}", "I need to {}", "how do you {}") * 2,
    "how should I {}",
    "how could I {}",
    "how might I {}",
    "how do we {}",
    "how does one {}",
    "how can you {}",
    "what do I run to {}",
    "what should I run to {}",
    "what should I type to {}",
    "what must I type to {}",
    "what do I do to {}",
    "what can I do to {}",
    "what do I need to {}",
    "what's the command to {}",
    "what's the way to {}",
    "what is the best way to {}",
    "what's the easiest way to {}",
    "what is the right command to {}",
    "what command do I need to {}",
    "what command should I use to {}",
    "which command should I run to {}",
    "which command lets me {}",
    "which command can {}",
    "which command must I use to {}",
    "with which command can I {}",
    "the command to {}",
    "is there a command to {}",
    "is there a way to {}",
    "is there any way to {}",
    "is there an easy way to {}",
    "is it possible to {}",
    "any way to {}",
    "can you {}",
    "could I {}",
    "may I {}",
    "can modelpm {}",
    "does modelpm let me {}",
    "can you tell me how to {}",
    "can you show me how to {}",
    "could you tell me how to {}",
    "could you explain how to {}",
    "do you know how to {}",
    "tell me how to {}",
    "please tell me how to {}",
    "show me how to {}",
    "explain how to {}",
    "I would like to {}",
    "I am trying to {}",
    "I'm trying to {}",
    "I have to {}",
    "I must {}",
    "I wish to {}",
    "we want to {}",
    "we need to {}",
    "I want to {}, what do I type",
    "I want to {}, what do I do",
    "I want to {}, how",
    "I need to {}, which command is it",
    "I need to {}, what's the command",
    "I don't know how to {}",
    "I forgot how to {}",
    "I can't find out how to {}",
    "help me {}",
    "please help me {}",
    "help me to {}",
    "let me {}",
    "please {}",
    "where can I {}",
    "where do I {}",
    "what if I want to {}",
    "time to {}",
    "it is time to {}",
    "my boss wants me to {}",
    "to {}",
)
DOES_FRAMES = (
    *("which command {}", "what {}", "what command {}", "is there a command that {}") * 2,
    "which modelpm command {}",
    "what is the command that {}",
    "which subcommand {}",
    "tell me which command {}",
    "tell me the command that {}",
    "give me the command that {}",
    "I need the command that {}",
    "I am looking for the command that {}",
    "name the command which {}",
    "the command that {}",
    "is there something that {}",
    "is there a command which {}",
    "does any command exist that {}",
    "which of the commands {}",
)
DOING_FRAMES = (
    "the command for {}",
    "what is the command for {}",
    "what's the command for {}",
    "which command is for {}",
    "is there a command for {}",
    "which command do I use for {}",
    "what do I type for {}",
    "I need help with {}",
    "help with {}",
    "{}",
    "what about {}",
    "how about {}",
    "how does {} work",
    "tell me about {}",
    "is {} possible",
    "a question about {}",
)
NOUN_FRAMES = (
    *("{}", "how does {} work", "tell me about {}", "explain {}", "what about {}") * 2,
    "what is {}",
    "what is {} for",
    "what does {} do",
    "what do I need {} for",
    "what can I do with {}",
    "when do I use {}",
    "how do I use {}",
    "describe {}",
    "how is {} used",
    "what's {}",
    "show me {}",
    "and {}",
    "help with {}",
    "I need help with {}",
    "can you explain {}",
    "a question about {}",
    "I do not understand {}",
    "information about {}",
    "give me an example of {}",
)
OPENINGS = (
    *("hi, ", "hello, ", "hey, ", "ok, ", "so ", "and ", "well, ", "please, ", "sorry, ") * 2,
    "quick question: ",
    "a question: ",
    "I am new here. ",
    "I use Linux. ",
    "I have a question. ",
    "I just installed modelpm. ",
    "hello! ",
    "now ",
    "next: ",
    "thanks. ",
    "excuse me, ",
    "one more thing: ",
    "tell me, ",
    "by the way, ",
)
CLOSINGS = (
    *(" please", ", please", " with modelpm", " in modelpm", " using modelpm") * 2,
    " from the command line",
    " from the terminal",
    " on Linux",
    " in my terminal",
    " now",
    " quickly",
    ", thanks",
    ", any idea",
    ", do you know",
    " exactly",
    " again",
    " then",
    " correctly",
    " myself",
    " the easy way",
)
CONTRACTIONS = (
    ("what is", ("what's", "whats")),
    ("where is", ("where's",)),
    ("who is", ("who's",)),
    ("do not", ("don't", "dont")),
    ("don't", ("do not",)),
    ("does not", ("doesn't",)),
    ("I am", ("I'm",)),
    ("I'm", ("I am",)),
    ("I have", ("I've got", "I've")),
    ("I would", ("I'd",)),
    ("I'd", ("I would",)),
    ("cannot", ("can't",)),
    ("can't", ("cannot",)),
    ("is not", ("isn't",)),
)
SMALL_WORDS = frozenset(
    (
        "a",
        "an",
        "the",
        "my",
        "to",
        "do",
        "I",
        "of",
        "some",
        "that",
        "is",
        "this",
        "it",
        "on",
        "in",
        "for",
    )
)

_THIRD = {"have": "has", "do": "does", "go": "goes", "be": "is"}
_GERUND = {
    "get": "getting",
    "put": "putting",
    "run": "running",
    "set": "setting",
    "quit": "quitting",
    "let": "letting",
    "cut": "cutting",
    "drop": "dropping",
    "stop": "stopping",
    "pin": "pinning",
    "log": "logging",
    "tag": "tagging",
    "chat": "chatting",
    "win": "winning",
    "zip": "zipping",
    "shut": "shutting",
    "dump": "dumping",
    "plan": "planning",
    "begin": "beginning",
    "scan": "scanning",
    "bin": "binning",
    "scrap": "scrapping",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One or more turns about independent questions, with a system text or none."""

    system: str
    turns: tuple[Turn, ...]


def normalised(question: str) -> str:
    """The question without case, punctuation and double spaces, for comparing questions."""
    return " ".join(re.sub(r"[^a-z0-9 ]", "", question.lower().replace("-", " ")).split())


def held_out() -> list[tuple[str, str]]:
    """The questions that are never trained on, each with the command its answer must name."""
    return [(row["question"], row["command"]) for row in json.loads(HELD_OUT.read_text("utf-8"))]


def named_command(answer: str) -> str:
    """The first command that an answer names, or nothing."""
    found = re.search(r"\bmodelpm ([a-z]+)", answer)
    return found[1] if found else ""


@cache
def _alternatives(phrase: str) -> tuple[tuple[int, int, tuple[str, ...]], ...]:
    """The innermost groups of a phrase: begin, end, alternatives."""
    return tuple(
        (m.start(), m.end(), tuple(m[1].split("|"))) for m in re.finditer(r"\(([^()]*)\)", phrase)
    )


def _invented(rng: random.Random) -> str:
    """The name of a model that nobody has heard of."""
    syllables = (
        rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))
    )
    word = "".join(syllables) + rng.choice(("", "", "n", "x", "r", "2", "3", "-7b", "-chat", ":1b"))
    return rng.choice(("{}", "{}", "{}", "my-{}", "team/{}", "{}.gguf")).format(word)


def expand(phrase: str, rng: random.Random) -> str:
    """One of the sentences that a phrase stands for."""
    while True:
        if groups := _alternatives(phrase):
            for begin, end, choices in reversed(groups):
                phrase = phrase[:begin] + rng.choice(choices) + phrase[end:]
        elif word := re.search(r"\$([a-z]+)", phrase):
            if word[1] == "newname":
                chosen = _invented(rng)
            elif word[1] == "nonsense":
                chosen = " ".join(_invented(rng) for _ in range(rng.randint(1, 3)))
            elif word[1] == "name" and rng.random() < 0.2:
                chosen = _invented(rng)
            else:
                chosen = WORDS[word[1]]
            phrase = phrase[: word.start()] + chosen + phrase[word.end() :]
        else:
            return " ".join(phrase.split())


def third_person(phrase: str) -> str:
    """`fetch a model` -> `fetches a model`."""
    verb, _, rest = phrase.partition(" ")
    if verb in _THIRD:
        verb = _THIRD[verb]
    elif verb.endswith(("ch", "sh", "ss", "x", "z", "o")):
        verb += "es"
    elif verb.endswith("y") and verb[-2:-1] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return f"{verb} {rest}".strip()


def gerund(phrase: str) -> str:
    """`delete a model` -> `deleting a model`."""
    verb, _, rest = phrase.partition(" ")
    if verb in _GERUND:
        verb = _GERUND[verb]
    elif verb.endswith("e") and not verb.endswith(("ee", "ye")):
        verb = verb[:-1] + "ing"
    else:
        verb += "ing"
    return f"{verb} {rest}".strip()


def _framed(intent: Intent, rng: random.Random) -> str:
    """A question for the intent in one of its kinds, each kind as often as it has matter."""
    kinds = [k for k in ("do", "ask", "noun") if getattr(intent, k)]
    weights = {"do": 6.0, "ask": 1.0 + min(4.0, 0.4 * len(intent.ask)), "noun": 1.0}
    kind = rng.choices(kinds, [weights[k] for k in kinds])[0]
    phrase = expand(rng.choice(getattr(intent, kind)), rng)
    if kind == "ask":
        return phrase
    if kind == "noun":
        return rng.choice(NOUN_FRAMES).format(phrase)
    form = rng.random()
    if form < 0.76 or " " not in phrase:
        return rng.choice(DO_FRAMES).format(phrase)
    if form < 0.90:
        return rng.choice(DOES_FRAMES).format(third_person(phrase))
    return rng.choice(DOING_FRAMES).format(gerund(phrase))


def _loosened(question: str, rng: random.Random) -> str:
    """The question with an opening, a closing, contractions, or a small word lost."""
    if rng.random() < 0.07:
        question = rng.choice(OPENINGS) + question
    if rng.random() < 0.07 and "," not in question:
        question += rng.choice(CLOSINGS)
    for full, short in CONTRACTIONS:
        if full in question and rng.random() < 0.2:
            question = question.replace(full, rng.choice(short), 1)
    words = question.split()
    small = [i for i, word in enumerate(words) if word in SMALL_WORDS]
    if small and len(words) > 4 and rng.random() < 0.12:
        del words[rng.choice(small)]
    return " ".join(words)


def _typed(question: str, rng: random.Random) -> str:
    """The question with the capitals and marks that people use or leave out."""
    if rng.random() < 0.5:
        question = question.lower()
    elif rng.random() < 0.4:
        question = question[:1].upper() + question[1:]
    return question + rng.choices(("?", "", ".", "!"), (55, 33, 10, 2))[0]


_SMALL_TALK = frozenset(("hello", "thanks", "bye", "who"))
_EXACT = ("how do i free disk space?", "how do i free disk space", "How do I free disk space?")


def turns(seed: int) -> Iterator[Turn]:
    """Endless questions with answers; none is a held-out one."""
    rng = random.Random(seed)
    weights = [intent.weight for intent in INTENTS]
    forbidden = {normalised(question) for question, _ in held_out()}
    while True:
        intent = rng.choices(INTENTS, weights)[0]
        question = _framed(intent, rng)
        if intent.name not in _SMALL_TALK:
            question = _loosened(question, rng)
        question = _typed(question, rng)
        if intent.name == "prune" and rng.random() < 0.02:
            question = rng.choice(_EXACT)
        if normalised(question) not in forbidden:
            yield Turn(question, intent.answer)


def conversations(seed: int) -> Iterator[Conversation]:
    """Endless conversations: mostly one turn, mostly with the system text of the Modelfile."""
    rng = random.Random(seed + 1)
    source = turns(seed)
    while True:
        count = rng.choices((1, 2, 3, 4), (80, 9, 7, 4))[0]
        kind = rng.random()
        system = SYSTEM if kind < 0.7 else "" if kind < 0.9 else rng.choice(OTHER_SYSTEMS)
        yield Conversation(system, tuple(next(source) for _ in range(count)))


if __name__ == "__main__":
    sample = turns(0)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 50):
        turn = next(sample)
        print(f"{turn.question}  ->  {turn.answer}")
