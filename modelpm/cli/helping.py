"""How help is laid out: as wide as the terminal is, and on a narrow one below each option."""

import shutil
from collections.abc import Iterable

import click

_MARGIN = 2
_LEAST = 30
_NARROW = 60
_INDENT = 6


class Formatter(click.HelpFormatter):
    """click's own takes no terminal to have less than 50 columns."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        if width is None:
            columns = min(shutil.get_terminal_size().columns, max_width or 80)
            width = max(columns - _MARGIN, _LEAST)
        super().__init__(indent_increment, width, max_width)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Names and what they mean, side by side where there is room."""
        narrow = self.width < _NARROW
        super().write_dl(rows, _INDENT if narrow else col_max, col_spacing)


class Context(click.Context):
    """A command line that is helped with so."""

    formatter_class = Formatter
