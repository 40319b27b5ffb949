"""What a mirror has not: remembered for a while, by repository, and not without end."""

from modelpm.registry.gaps import MAX_GAPS, REMEMBERED, Gaps


def test_gaps_are_of_one_thing_or_of_a_whole_repository() -> None:
    known = Gaps(lambda: 1.0)
    known.note("a", "v1")
    known.note("b")
    told = [("a", "v1"), ("a", "v2"), ("a", ""), ("b", "v1"), ("b", ""), ("c", "v1")]
    assert [known.has(*each) for each in told] == [True, False, False, True, True, False]


def test_a_gap_is_forgotten_after_a_while() -> None:
    now = [1.0]
    known = Gaps(lambda: now[0])
    known.note("a", "v1")
    now[0] += REMEMBERED - 1
    assert known.has("a", "v1")
    now[0] += 2
    assert not known.has("a", "v1")


def test_the_last_ones_are_kept() -> None:
    known = Gaps(lambda: 1.0)
    for number in range(MAX_GAPS + 2):
        known.note("a", str(number))
        known.note("a", "0")
    assert known.has("a", "0")
    assert not known.has("a", "1")
    assert known.has("a", str(MAX_GAPS + 1))
