"""What a scenario means: a list of rules, each a JSON object, that bend a server's answers.

A rule says which requests it is for, and what happens to them. The first rule that wants a request
has it; a rule counts only the requests that reach it, so rules stand in the order of events:

    [{"path": "/blobs/", "times": 2, "status": 503, "headers": {"Retry-After": "1"}},
     {"path": "/blobs/", "times": 1, "cut": 5000}]       503, 503, cut after 5000 bytes, good

Which requests (all that are given must hold):
    method        "GET"
    path          regular expression, searched in path and query
    header        {"range": "^bytes=0-"}: regular expressions, names in lower case
    authorized    true or false: with or without an Authorization header
    skip          let the first n pass
    times         act on n of them, then no more
    nth           only the n-th
    crowd         only while more than n requests, this one too, are being answered

What the answer is:
    status        of the answer; the body becomes an error document unless `body` is given or 2xx
    headers       {name: value}, or {name: [value, value]}; null takes the header away
    redirect      307 (or `status`) with this Location; {path}, {digest} and {count} are filled in
    challenge     401 (or `status`) with this WWW-Authenticate; a list gives several
    body          other content, as text
    flip          the byte at this offset of the whole content is another
    drop          the last n bytes of the content are missing, and the head agrees
    append        n more bytes of content, and the head agrees
    endless       true: the body goes on, without a length, for 256 MiB
    gzip          true: with Content-Encoding: gzip
    framing       "chunked" or "close" instead of "length"
    length        a Content-Length that lies
    range         ranges: "ignore" (200), "refuse" (416), or a lie in the 206: "start", "total",
                  "none" (no Content-Range), "multipart", "other" (bytes from one further on)

How it is sent (see `loopback.Pace`):
    delay, rate, total, cut, reset, stall, hold

How the request's body is received (see `loopback.Intake`):
    take          so many bytes of it, then
    after         "cut", "reset", or "answer" without the rest
    intake_rate   bytes a second
"""

import gzip
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from http import HTTPStatus
from typing import Any, Literal

from loopback import Answer, Intake, Origin, Pace, Request

Rules = Sequence[Mapping[str, Any]]

MAX_APPENDED = 2**20
"""Appended bytes that ranges can reach; more of them are sent after whatever was asked for."""

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_DIGEST = re.compile(r"sha(?:256|512):[0-9a-f]+")
_PACE = frozenset(item.name for item in fields(Pace))
_INTAKE = {"take": "take", "after": "after", "intake_rate": "rate"}


@dataclass(frozen=True, slots=True)
class Act:
    """What happens to an answer; the module's docstring tells each field."""

    status: int | None = None
    headers: Mapping[str, str | list[str] | None] = field(default_factory=dict)
    redirect: str | None = None
    challenge: str | list[str] | None = None
    body: str | None = None
    flip: int | None = None
    drop: int = 0
    append: int = 0
    endless: bool = False
    gzip: bool = False
    framing: Literal["length", "chunked", "close"] = "length"
    length: int | None = None
    range: str = "honest"
    pace: Pace = field(default_factory=Pace)
    intake: Intake = field(default_factory=Intake)

    def bend(self, request: Request, answer: Answer, count: int = 1) -> Answer:
        """The answer as this act has it; `count` says how often the rule has acted."""
        if answer.status == HTTPStatus.OK:
            answer = self._range(request, replace(answer, body=self._content(answer.body)))
        answer = self._status(request, answer, count)
        for name, value in self.headers.items():
            answer = with_header(answer, name, value)
        if self.append > MAX_APPENDED or self.endless:
            answer = replace(answer, filler=2**62 if self.endless else self.append)
        framing = "close" if self.endless and self.framing == "length" else self.framing
        return replace(answer, framing=framing, claimed=self.length, pace=self.pace)

    def _content(self, body: bytes) -> bytes:
        if self.body is not None:
            body = self.body.encode()
        if self.flip is not None and self.flip < len(body):
            at = self.flip
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if self.drop:
            body = body[: -self.drop]
        if self.append <= MAX_APPENDED:
            body += bytes(self.append)
        return gzip.compress(body) if self.gzip else body

    def _range(self, request: Request, answer: Answer) -> Answer:
        if self.gzip:
            answer = with_header(answer, "Content-Encoding", "gzip")
        takes_ranges = ("Accept-Ranges", "bytes") in answer.headers and self.range != "ignore"
        match = _RANGE.fullmatch(request.headers.get("range", ""))
        if request.method != "GET" or not takes_ranges or match is None:
            return answer
        total = len(answer.body)
        start, stop = _span(match[1], match[2], total)
        if self.range == "refuse" or not 0 <= start < stop:
            empty = replace(answer, status=416, body=b"")
            return with_header(empty, "Content-Range", f"bytes */{total}")
        return self._partial(answer, start, stop, total)

    def _partial(self, answer: Answer, start: int, stop: int, total: int) -> Answer:
        shift = 1 if self.range == "other" else 0
        part = replace(answer, status=206, body=answer.body[start + shift : stop + shift])
        if self.range == "none":
            return part
        if self.range == "multipart":
            kind = "multipart/byteranges; boundary=fence"
            body = b"--fence\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%b\r\n--fence--\r\n" % (
                *(start, stop - 1, total),
                part.body,
            )
            return with_header(replace(part, body=body), "Content-Type", kind)
        told = start + 1 if self.range == "start" else start
        of = total + 1 if self.range == "total" else total
        return with_header(part, "Content-Range", f"bytes {told}-{stop - 1}/{of}")

    def _status(self, request: Request, answer: Answer, count: int) -> Answer:
        status = self.status
        if self.redirect is not None:
            status = status or HTTPStatus.TEMPORARY_REDIRECT
        if self.challenge is not None:
            status = status or HTTPStatus.UNAUTHORIZED
        if status is not None:
            answer = self._other_status(answer, status)
        if self.redirect is not None:
            location = _filled_in(self.redirect, request.path, count)
            answer = with_header(answer, "Location", location)
        if self.challenge is not None:
            answer = with_header(answer, "WWW-Authenticate", self.challenge)
        return answer

    def _other_status(self, answer: Answer, status: int) -> Answer:
        if self.body is not None:
            return replace(answer, status=status, body=self._content(b""))
        if status >= HTTPStatus.BAD_REQUEST:
            return error_answer(status, "FAULT", f"scripted {status}")
        if status >= HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.NO_CONTENT:
            return replace(answer, status=status, body=b"")
        return replace(answer, status=status)


class Scenario:
    """The rules of one server and how often each was reached. Threads may share it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = [_Rule.from_json(rule) for rule in rules]
        self._reached = [0] * len(self._rules)
        self._acted = [0] * len(self._rules)
        self._lock = threading.Lock()

    def act_on(self, request: Request, answering: int = 1) -> tuple[Act, int]:
        """The act for this request (an empty one if no rule wants it) and its count.

        `answering` is how many requests are being answered, with this one.
        """
        with self._lock:
            for index, rule in enumerate(self._rules):
                if not rule.matches(request) or answering <= rule.crowd:
                    continue
                self._reached[index] += 1
                if rule.wants(self._reached[index]):
                    self._acted[index] += 1
                    return rule.act, self._acted[index]
        return Act(), 0


class Scripted(Origin):
    """An origin whose answers a scenario bends; `reply` gives the straight ones."""

    def __init__(self, *, scenario: Rules = (), **options: Any) -> None:
        super().__init__(**options)
        self._rules, self._scenario = scenario, Scenario(scenario)
        self._now = _Now()

    @property
    def scenario(self) -> Rules:
        """The rules; setting them starts all counts anew."""
        return self._rules

    @scenario.setter
    def scenario(self, rules: Rules) -> None:
        self._rules, self._scenario = rules, Scenario(rules)

    def intake(self, request: Request) -> Intake:
        self._now.act = self._scenario.act_on(request, self.answering)
        intake: Intake = self._now.act[0].intake
        return intake

    def answer(self, request: Request) -> Answer:
        act, count = self._now.act
        return act.bend(request, self.reply(request), count)

    def reply(self, request: Request) -> Answer:
        """The straight answer, with the whole content; ranges are made from it."""
        return error_answer(404, "NOT_FOUND", request.path)


class _Now(threading.local):
    """What happens to the request that a thread works on."""

    act: tuple[Act, int] = (Act(), 0)


@dataclass(frozen=True, slots=True)
class _Rule:
    act: Act
    method: str | None = None
    path: str = ""
    header: Mapping[str, str] = field(default_factory=dict)
    authorized: bool | None = None
    skip: int = 0
    times: int | None = None
    nth: int | None = None
    crowd: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "_Rule":
        match_names = {item.name for item in fields(cls)} - {"act"}
        matching = {key: value[key] for key in value if key in match_names}
        pace = {key: value[key] for key in value if key in _PACE}
        intake = {_INTAKE[key]: value[key] for key in value if key in _INTAKE}
        known = match_names | _PACE | set(_INTAKE)
        acting = {key: value[key] for key in value if key not in known}
        return cls(Act(pace=Pace(**pace), intake=Intake(**intake), **acting), **matching)

    def matches(self, request: Request) -> bool:
        has_authorization = "authorization" in request.headers
        return (
            self.method in (None, request.method)
            and re.search(self.path, request.path) is not None
            and self.authorized in (None, has_authorization)
            and all(
                name in request.headers and re.search(pattern, request.headers[name])
                for name, pattern in self.header.items()
            )
        )

    def wants(self, count: int) -> bool:
        if self.nth is not None:
            return count == self.nth
        return self.skip < count and (self.times is None or count <= self.skip + self.times)


def with_header(answer: Answer, name: str, value: str | list[str] | None) -> Answer:
    """The answer with this header once, as often as the list is long, or not at all."""
    kept = tuple(pair for pair in answer.headers if pair[0].lower() != name.lower())
    values = [] if value is None else [value] if isinstance(value, str) else value
    return replace(answer, headers=(*kept, *((name, item) for item in values)))


def error_answer(status: int, code: str, message: str) -> Answer:
    """An answer with the JSON of distribution spec, "Error Codes"."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, (("Content-Type", "application/json"),), body)


def _filled_in(location: str, path: str, count: int) -> str:
    digest = _DIGEST.search(path)
    for name, value in (("path", path), ("digest", digest[0] if digest else ""), ("count", count)):
        location = location.replace(f"{{{name}}}", str(value))
    return location


def _span(first: str, last: str, total: int) -> tuple[int, int]:
    """The [start, stop) that a Range header's two numbers mean (RFC 9110, 14.1.2)."""
    if not first:
        return (max(0, total - int(last)), total) if last and int(last) else (total, total)
    return int(first), min(int(last) + 1, total) if last else total
