"""These tests sync a lot: in memory where there is room."""

from tests.store.conftest import tmp_path

__all__ = ["tmp_path"]
