"""How models are made here: what is asked for, what is inherited, and how it is written."""

from modelpm.creating.making import Wish, convert, create

__all__ = ["Wish", "convert", "create"]
