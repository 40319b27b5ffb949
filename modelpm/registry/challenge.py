"""How a server asks who is there: the header WWW-Authenticate (RFC 9110, 11.6.1), in every form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_CHALLENGES = 16
MAX_HEADER = 64 * 2**10

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:[ \t]+|(?=,)|$)")
_PARAMETER = re.compile(
    rf'[\s,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))[ \t]*(?=,|$)', re.DOTALL
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to say who we are: the scheme and the names of its parameters in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header, which may hold several challenges (RFC 9110, 11.6.1).

    What cannot be read ends the list. Of two challenges with one scheme the first counts for us.
    """
    text = header[:MAX_HEADER]
    found: dict[str, Challenge] = {}
    position = 0
    for _ in range(MAX_CHALLENGES):
        match = _SCHEME.match(text, position)
        if match is None:
            break
        parameters, position = _parse_parameters(text, match.end())
        found.setdefault(match[1].lower(), Challenge(match[1].lower(), parameters))
    return tuple(found.values())


def _parse_parameters(text: str, position: int) -> tuple[dict[str, str], int]:
    """The parameters from here up to the next scheme, and where that begins."""
    parameters: dict[str, str] = {}
    while (match := _PARAMETER.match(text, position)) is not None:
        quoted, bare = match[2], match[3]
        value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        parameters.setdefault(match[1].lower(), value)
        position = match.end()
    if not parameters and (token := _TOKEN68.match(text, position)) is not None:
        position = token.end()
    return parameters, position
