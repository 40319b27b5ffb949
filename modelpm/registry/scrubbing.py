"""How a secret is found again in what a server says: in other letters, encoded, or cut off.

Servers repeat what they were sent: in lower case as a host, percent-encoded in a URL, as part of
what they have in base64. Both texts are brought to one plain form in which these are the same.
"""

import base64
import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from modelpm.errors import ModelPMError

SHORTEST = 4
"""Bytes: what is shorter is found in any text, and no secret."""

LONGEST_TEXT = 64 * 2**10
"""Characters of a text that is looked through; the rest of it is left out."""

_KEPT = 64
"""Secrets that are known at once: the last ones."""

_SHORTEST_START = 8
"""Bytes of the beginning of a secret that are known again where a text was cut."""

_SHOWN = "***"
_UNIT = re.compile(r"%(?:25){0,4}([0-9A-Fa-f]{2})|(.)", re.DOTALL)
_ENCODED = re.compile(r"[%\\]")
_HALF_UNIT = re.compile(rb"%[0-9a-f]?\Z")
_SAME = bytes.maketrans(b" -_", b"++/")
"""What a form and the two alphabets of base64 (RFC 4648, 4 and 5) write otherwise."""

_BASE64 = re.compile(rb"[a-z0-9/=]")
_AROUND = 3
"""Characters of base64 that may hold some bits of a byte that does not begin with them. Of `+`
nobody knows whether it is one: it stands for a space too."""


class Scrubber:
    """Takes secrets out of texts. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[tuple[bytes, int], ...]] = OrderedDict()

    def learn(self, secret: str) -> None:
        """Take this out from now on; what is too short to be a secret is not."""
        if len(secret.encode(errors="surrogatepass")) < SHORTEST:
            return
        with self._lock:
            if secret not in self._known:
                self._known[secret] = tuple(dict.fromkeys(_forms(secret)))
            self._known.move_to_end(secret)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Scrub what is raised meanwhile."""
        try:
            yield
        except ModelPMError as error:
            error.args = (self.scrub(str(error)),)
            raise

    def scrub(self, text: str) -> str:
        """The text, each secret in it replaced by `***`; the time is linear in its length."""
        with self._lock:
            forms = [form for forms in self._known.values() for form in forms]
        if not forms or not text:
            return text
        text = text[:LONGEST_TEXT]
        plain, starts = _plain(text)
        spans = [span for form, around in forms for span in _found(plain, form, around)]
        pieces, end = [], 0
        for start, stop in _merged(spans):
            pieces += [text[end : starts[start]], _SHOWN]
            end = starts[stop]
        return "".join([*pieces, text[end:]])


def _forms(secret: str) -> Iterator[tuple[bytes, int]]:
    """The plain forms that a secret may have, and how many characters around are part of it."""
    raw = secret.encode(errors="surrogatepass")
    yield _plain(secret)[0], 0
    yield raw.replace(b"\\", b"").lower().translate(_SAME), 0  # if it looks percent-encoded
    if not secret.isascii():  # http.client reads a header as Latin-1
        yield _plain(raw.decode("latin-1"))[0], 0
    yield raw.hex().encode(), 0
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).rstrip(b"=")
        whole = len(encoded) - bool((before + len(raw)) % 3)
        part = encoded[(0, 2, 3)[before] : whole]
        if len(part) >= SHORTEST:
            yield part.lower().translate(_SAME), _AROUND


def _plain(text: str) -> tuple[bytes, Sequence[int]]:
    """The text in its plain form; where in the text each byte of that begins, and the end."""
    if text.isascii() and not _ENCODED.search(text):
        return text.encode().lower().translate(_SAME), range(len(text) + 1)
    plain, starts = bytearray(), list[int]()
    for match in _UNIT.finditer(text):
        encoded, char = match.groups()
        unit = bytes.fromhex(encoded) if char is None else char.encode(errors="surrogatepass")
        # What is quoted has more backslashes, and JSON may have some before any mark.
        unit = b"" if unit == b"\\" else unit.lower().translate(_SAME)
        plain += unit
        starts += [match.start()] * len(unit)
    return bytes(plain), [*starts, len(text)]


def _found(plain: bytes, form: bytes, around: int) -> Iterator[tuple[int, int]]:
    """Where a form stands in a text, or at its end as much of it as was not cut off."""
    start = plain.find(form)
    while form and start >= 0:
        stop = start + len(form)
        first, last = max(0, start - around), min(len(plain), stop + around)
        while start > first and _BASE64.fullmatch(plain, start - 1, start):
            start -= 1
        while stop < last and _BASE64.fullmatch(plain, stop, stop + 1):
            stop += 1
        yield start, stop
        start = plain.find(form, stop)
    yield from _found_cut(plain, form)


def _found_cut(plain: bytes, form: bytes) -> Iterator[tuple[int, int]]:
    """What there is of a form at the end of a text that was cut off in it."""
    begin = form[:_SHORTEST_START]
    start = plain.find(begin, max(0, len(plain) - len(form))) if len(form) > len(begin) else -1
    while start >= 0:
        if form.startswith(_HALF_UNIT.sub(b"", plain[start:])):
            yield start, len(plain)
            return
        start = plain.find(begin, start + 1)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that do not overlap, in order."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
