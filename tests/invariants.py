"""The conditions that nothing was lost: taken before a fault, asserted after it."""

from pathlib import Path

from modelpm.store.layout import Store


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its bytes; folders have None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class Unharmed:
    """N0 to N2 and N4: what was published is as it was, and nothing outside the store changed."""

    def __init__(self, home: Path, outside: Path) -> None:
        self._home, self._outside = home, outside
        self._published = self._of_store()
        self._around = self._of_outside()

    def check(self, *, drafts: bool) -> None:
        """After a failure; `drafts` says whether a begun download may stay.

        Whole blobs may have come in: `Store.check` says whether they are what they are called.
        """
        now = self._of_store()
        assert {name: now.get(name) for name in self._published} == self._published
        assert self._of_outside() == self._around
        assert Store(self._home).check() == []
        if not drafts and (self._home / "ingest").exists():
            assert list((self._home / "ingest").iterdir()) == []
        for folder in ("leases", "trash"):
            if (self._home / folder).exists():
                assert list((self._home / folder).iterdir()) == []

    def _of_store(self) -> dict[str, bytes | None]:
        ours = ("index.json", "blobs/")
        found = contents(self._home) if self._home.exists() else {}
        return {
            name: content
            for name, content in found.items()
            if content is not None and name.startswith(ours)
        }

    def _of_outside(self) -> dict[str, bytes | None]:
        home = str(self._home.relative_to(self._outside))
        return {
            name: content
            for name, content in contents(self._outside).items()
            if not (name == home or name.startswith(f"{home}/"))
        }
