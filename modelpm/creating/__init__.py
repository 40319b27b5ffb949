"""How models are made here: what is asked for, what is inherited, and how it is written."""

from modelpm.creating.making import Wish, convert, create
from modelpm.creating.plan import base
from modelpm.creating.remarks import remarks

__all__ = ["Wish", "base", "convert", "create", "remarks"]
