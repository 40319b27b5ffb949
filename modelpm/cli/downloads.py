"""How many connections and bytes a second a transfer may take: the options that say so."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from modelpm.registry.limits import Limits

CONNECTIONS = 8
"""What `Limits` has where nobody says."""

MAX_CONNECTIONS = 64
LEAST_RATE = 1000
"""Bytes a second: below it a server takes us for dead."""

_RATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([kmgt]?)(i?)b?(?:/s)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_rate(text: str) -> int:
    """Bytes a second of `500k` or `10 MB/s`, in thousands as sizes are shown, or of `10MiB`.

    Raises BadParameter.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise click.BadParameter(f"{text!r} is no rate: write it as 500k, 10M, 1.5G or 10MiB")
    rate = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
    if 0 < rate < LEAST_RATE:
        raise click.BadParameter(f"{text!r} is less than 1k bytes a second")
    return rate


_OPTIONS = (
    click.option(
        "--connections",
        type=click.IntRange(1, MAX_CONNECTIONS),
        metavar="N",
        default=CONNECTIONS,
        show_default=True,
        help="At most so many connections at once.",
    ),
    click.option(
        "--limit-rate",
        callback=lambda _context, _option, text: parse_rate(text),
        metavar="RATE",
        default="0",
        help="At most so many bytes a second, as `500k` or `10M`.  [default: 0, no limit]",
    ),
)


def limits(connections: int, limit_rate: int) -> "Limits":
    """What these options mean to a client."""
    from modelpm.registry.limits import Limits  # noqa: PLC0415 - lazy: start-up time

    return Limits(connections=connections, rate=limit_rate)


def bounded(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `connections` and `limit_rate`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
