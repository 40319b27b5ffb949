"""Layers that lie on one another: what is seen of them, and what is gone."""

import pytest

from modelpm.model.overlay import seen


@pytest.mark.parametrize(
    ("layers", "visible"),
    [
        ([], []),
        ([[]], [[]]),
        ([["m/a", "m/b"], ["m/c"]], [["m/a", "m/b"], ["m/c"]]),
        # the last of several files of one path lies on top
        ([["m/a"], ["m/a"]], [[], ["m/a"]]),
        # a file that is gone, and came back
        ([["m/a", "m/b"], ["m/.wh.a"]], [["m/b"], []]),
        ([["m/a"], ["m/.wh.a"], ["m/a"]], [[], [], ["m/a"]]),
        # only of the layers below
        ([["m/.wh.a"], ["m/a"]], [[], ["m/a"]]),
        ([["m/a"], ["m/.wh.a", "m/a"]], [[], ["m/a"]]),
        # folders are gone with all that is in them, and names are whole
        ([["m/a/b/c", "m/ab"], ["m/.wh.a"]], [["m/ab"], []]),
        ([["m/a"], [".wh.m"]], [[], []]),
        ([["m/a", "n"], [".wh.m", "m/b"]], [["n"], ["m/b"]]),
        # an opaque folder hides what is in it below, and nothing beside it
        ([["m/a/x", "m/b"], ["m/a/.wh..wh..opq", "m/a/y"]], [["m/b"], ["m/a/y"]]),
        ([["m/a/x/y"], ["m/a/.wh..wh..opq"]], [[], []]),
        ([["m/a"], [".wh..wh..opq"], ["m/b"]], [[], [], ["m/b"]]),
        ([["m/a"], ["m/a/.wh..wh..opq"]], [["m/a"], []]),
        # a file in the place of a folder, and a folder in the place of a file
        ([["m/a/b"], ["m/a"]], [[], ["m/a"]]),
        ([["m/a"], ["m/a/b"]], [[], ["m/a/b"]]),
        # words that are kept for others, and the name of nothing
        ([["m/a", "m/.wh."], ["m/.wh..wh.plnk", "m/.wh."]], [["m/a"], []]),
        ([["m/.wh.a"], ["m/.wh..wh.a"]], [[], []]),
    ],
)
def test_what_is_seen(layers: list[list[str]], visible: list[list[str]]) -> None:
    assert [sorted(paths) for paths in seen(layers)] == visible
