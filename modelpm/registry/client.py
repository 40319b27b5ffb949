"""HTTP to one registry, through one door.

The protocol's skeleton is oras: its URLs, its lists, its requests for blobs. All that it asks goes
through `do_request`, which is ours: who may be told a secret, where a redirect may lead, how long
to wait, how often to try, how much to read. No other module knows oras.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import requests
import urllib3

from modelpm.errors import RegistryError
from modelpm.oci.manifest import MAX_BYTES
from modelpm.registry.auth import Auth, Reply, attach
from modelpm.registry.budget import Budget
from modelpm.registry.catalog import repositories
from modelpm.registry.connection import speaks_tls
from modelpm.registry.credentials import CredentialSource
from modelpm.registry.failure import of_answer, of_exception
from modelpm.registry.hosts import Hosts
from modelpm.registry.limits import Attempts, Limits
from modelpm.registry.postponed import postponed
from modelpm.registry.routes import Routes
from modelpm.registry.session import Session
from modelpm.registry.task import PULLS, Task
from modelpm.registry.url import Origin, is_loopback, next_page, redacted, redirected

# oras validates its own uploads with it, which are not ours, and it takes a third of the start.
with postponed("jsonschema"):
    import oras.container
    import oras.provider

__all__ = ["DEFAULT_LIMITS", "Limits", "RegistryClient"]

DEFAULT_LIMITS = Limits()

_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRIED = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
CROWDED = frozenset({429, 503})
"""What a registry says that serves only so many at once."""
_PIECE = 64 * 2**10
_LOG = logging.getLogger("modelpm.registry")

# oras complains on its own logger. Without any handler, logging would print that.
logging.getLogger("oras").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Call:
    """One request; `seconds` may pass without a byte of its answer. There may be secrets in it."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    seconds: float
    data: Any = field(default=None, repr=False)
    json: Any = field(default=None, repr=False)


class RegistryClient(oras.provider.Registry):  # type: ignore[misc] # oras has no types
    """Requests to the registry at `host`, which is spelled as a Reference has it.

    `hosts` says how it is to be spoken to, and so those that it refers to. Where that leaves open
    whether to speak without TLS, a registry on this machine is asked which of them it speaks.
    `on_wait` is told seconds and reason before each wait, from any thread.

    Methods raise RegistryError, AuthenticationError and NotFoundError. Threads may share it.
    """

    _prefix: str | None

    def __init__(
        self,
        host: str,
        *,
        credentials: CredentialSource,
        hosts: Hosts | None = None,
        limits: Limits = DEFAULT_LIMITS,
        on_wait: Callable[[float, str], None] = lambda _seconds, _reason: None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(hostname=_API_HOSTS.get(host, host))
        self.host = host
        self.limits = limits
        self.clock = clock
        self.settings = (hosts or Hosts()).of(host)
        self._server = Origin.of(f"https://{self.hostname}")
        self.session = Session(Routes(self._server, self.settings, hosts or Hosts()).to)
        self.auth = Auth(
            host,
            credentials,
            self._ask_token_service,
            clock,
            self.settings.trusted_realms,
            insecure_login=self.settings.insecure_login,
        )
        self.budget = Budget(limits, sleep or time.sleep, clock)
        self._sleep = sleep
        self._on_wait = on_wait
        plain = self.settings.plain_http
        self.prefix = None if plain is None else ("https", "http")[plain]

    @property
    def prefix(self) -> str:
        """`https` or `http`: what this registry speaks. oras begins each URL with it."""
        if self._prefix is None and is_loopback(self._server.host):
            try:
                tls = speaks_tls(self._server.host, self._server.port, self.limits.connect)
            except OSError:
                # Nobody answers now; the request will say so better.
                return "https"
            self._prefix = "https" if tls else "http"
        return self._prefix or "https"

    @prefix.setter
    def prefix(self, scheme: str | None) -> None:
        self._prefix = scheme

    @property
    def origin(self) -> Origin:
        """Whom this registry's secrets belong to."""
        return Origin.of(f"{self.prefix}://{self.hostname}")

    def close(self) -> None:
        """Close all connections."""
        self.session.close()

    def attempts(self, over: threading.Event | None = None, *, most: int | None = None) -> Attempts:
        """The attempts at a new piece of work, which `over` ends, and the wait between them too.

        With `most` there are no more than that; without, those crowded out wait for their turn.
        """
        is_over = (over := over or threading.Event()).is_set
        sleep: Callable[[float], object] = self._sleep or over.wait
        if most is not None:
            return Attempts(replace(self.limits, attempts=most), sleep, self._on_wait, is_over)
        return Attempts(self.limits, sleep, self._on_wait, is_over, self.budget)

    def get_container(self, name: str | oras.container.Container) -> oras.container.Container:
        """The builder of URLs for a repository of this registry, whatever its name looks like."""
        if isinstance(name, oras.container.Container):
            return name
        container = oras.container.Container("repository", registry=self.hostname)
        container.namespace, _, container.repository = name.rpartition("/")
        return container

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        stream: bool = False,
        attempts: Attempts | None = None,
        task: Task | None = None,
        seconds: float | None = None,
    ) -> requests.Response:
        """Ask, and answer what the registry asks back. An answer of any status is returned.

        With `stream` the body is left to be read, without any check but that nothing encodes it;
        otherwise it has been read, up to 4 MiB. GET and HEAD are redirected. A request is tried
        again, unless its `data` is more than bytes. `task` is told where the URL does not tell it;
        `seconds` may pass without a byte of the answer.
        """
        task = task or Task.of(self.host, method, url)
        sent = {**(headers or {}), "Accept-Encoding": "identity"}
        call = _Call(method, url, sent, seconds or self.limits.no_progress, data, json)
        repeatable = isinstance(data, bytes | None)

        def once() -> requests.Response:
            response = self._authorised(task, call)
            if not is_success(response):
                self._load(response, self.limits.small_body)
            elif not stream:
                self._load(response, MAX_BYTES, task.words)
            return response

        response = self._persist(task.words, once, repeatable, attempts)
        encoding = response.headers.get("Content-Encoding", "").strip()
        if is_success(response) and encoding.lower() not in ("", "identity"):
            response.close()
            told = self.auth.scrub(encoding)
            raise RegistryError(f"{task.words}: the content comes encoded as {told:.50}")
        return response

    def check(self, response: requests.Response, task: Task | None = None) -> None:
        """Raises what an answer means unless it is one of success."""
        if is_success(response):
            return
        asked = response.history[0] if response.history else response
        task = task or Task.of(self.host, str(asked.request.method), asked.url)
        status, said = response.status_code, asked.request.headers.get("Authorization")
        elsewhere = "" if self.is_home(response) else Origin.of(response.url).authority
        raise of_answer(
            task.words,
            self.host,
            status,
            self.auth.read_refusal(response.content),
            anonymous=status == HTTPStatus.NOT_FOUND and self.auth.is_anonymous(task.scope),
            elsewhere=self.auth.scrub(elsewhere),
            whose=self.auth.whose(task.scope.repository, said),
        )

    def is_home(self, response: requests.Response) -> bool:
        """Whether the answer, and every redirect that led to it, is the registry's own."""
        return all(Origin.of(hop.url) == self.origin for hop in (response, *response.history))

    def pages(self, url: str, accept: str = "application/json") -> Iterator[requests.Response]:
        """The pages of a list, each read whole. Raises RegistryError past the limits of a list."""
        seen: set[str] = set()
        size = 0
        while url not in seen:
            seen.add(url)
            response = self.do_request(url, headers={"Accept": accept})
            size += len(response.content)
            if len(seen) > self.limits.pages or size > self.limits.page_bytes:
                break
            yield response
            link = response.links.get("next", {}).get("url")
            if not link:
                return
            with self.auth.scrubbing():
                url = next_page(url, link)
        raise RegistryError(f"{Task.of(self.host, 'GET', url).words}: the list does not end")

    def catalog(self) -> Iterator[str]:
        """The names of the repositories. Raises as `catalog.repositories`."""
        return repositories(self)

    def _do_paginated_request(
        self,
        url: str,
        callable: Callable[[requests.Response], Any],  # noqa: A002 - oras passes it by this name
    ) -> None:
        for page in self.pages(url):
            self.check(page)
            if not callable(page):
                return

    def _check_200_response(self, response: requests.Response) -> None:
        self.check(response)

    def _persist(
        self,
        words: str,
        once: Callable[[], requests.Response],
        repeatable: bool,
        attempts: Attempts | None = None,
    ) -> requests.Response:
        """The answer of the last attempt. Raises RegistryError if there was none."""
        attempts = attempts or self.attempts()
        while True:
            try:
                with self.budget.flowing():
                    response = once()
            except RegistryError as error:
                error.args = (self.auth.scrub(str(error)),)  # a Location or a realm is in some
                raise
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                failure = of_exception(error, self._host_of(error), self.limits)
            else:
                status = response.status_code
                why = self.auth.scrub(f"{Origin.of(response.url).authority} answered {status}")
                told = response.headers.get("Retry-After")
                crowded = status in CROWDED
                may_pass = status in RETRIED and repeatable
                if may_pass and attempts.again(why, told, crowded=crowded):
                    continue
                return response
            # Outside of `except`: the exception's text may hold a URL with a signature.
            may_pass, quick = repeatable and failure.may_pass, failure.quick
            why = self.auth.scrub(failure.words)
            if not (may_pass and attempts.again(why, quick=quick, crowded=not quick)):
                raise RegistryError(f"{words}: {why}")

    def _host_of(self, error: BaseException) -> str:
        """The host that an exception is about."""
        request = getattr(error, "request", None)
        origin = self._server if request is None else Origin.of(request.url)
        return self.host if origin.authority == self._server.authority else origin.authority

    def _authorised(self, task: Task, call: _Call) -> requests.Response:
        """Ask with what the registry wants to be told, if it is the registry that is asked."""
        origin = self.origin
        if Origin.of(call.url) != origin:
            return self._follow(call)
        said = self.auth.preempt(origin, task.scope)
        for rounds_left in range(self.limits.auth_rounds, -1, -1):
            headers = attach(call.headers, call.url, origin, said)
            response = self._follow(replace(call, headers=headers))
            is_asked = response.status_code == HTTPStatus.UNAUTHORIZED and self.is_home(response)
            if not (is_asked and rounds_left):
                break
            self._load(response, self.limits.small_body)
            challenges = response.headers.get("WWW-Authenticate", "")
            said = self.auth.answer(origin, challenges, task.scope, said)
            if said is None:
                break
        return response

    def _follow(self, call: _Call) -> requests.Response:
        """Send, and go where redirects of GET and HEAD lead. Authorization stays at its origin."""
        hops: list[requests.Response] = []
        while True:
            response = self._send(call)
            response.history = hops
            if response.status_code not in _REDIRECTS or call.method not in PULLS:
                return response
            self._release(response)
            hops = [*hops, response]
            words = Task.of(self.host, call.method, hops[0].url).words
            if len(hops) > self.limits.redirects:
                raise RegistryError(f"{words}: more than {self.limits.redirects} redirects")
            try:
                target = redirected(call.url, response.headers.get("Location", ""))
            except RegistryError as error:
                raise RegistryError(f"{words}: {error}") from None
            headers = dict(call.headers)
            if Origin.of(target) != Origin.of(call.url):
                headers.pop("Authorization", None)
            call = replace(call, url=target, headers=headers)

    def _send(self, call: _Call) -> requests.Response:
        started = self.clock()
        response = self.session.ask(
            requests.Request(call.method, call.url, call.headers, data=call.data, json=call.json),
            (self.limits.connect, call.seconds),
        )
        spent = (self.clock() - started) * 1000
        shown = self.auth.scrub(redacted(call.url))
        _LOG.debug("%s %s %d %.0f ms", call.method, shown, response.status_code, spent)
        return response

    def _load(
        self, response: requests.Response, limit: int, words: str = "", seconds: float | None = None
    ) -> None:
        """Read the body into memory: all of it, or without `words` what comes up to the limit.

        With `words`, which begin messages, raises RegistryError past the limit or the time, and
        urllib3's HTTPError for a broken body.
        """
        deadline = self.clock() + (seconds or self.limits.document)
        body, late = bytearray(), False
        try:
            while not late and len(body) <= limit and (piece := response.raw.read1(_PIECE)):
                body += piece
                late = self.clock() > deadline
        except (urllib3.exceptions.HTTPError, OSError):
            if words:
                raise
        finally:
            response.close()
        if words and len(body) > limit:
            raise RegistryError(f"{words}: the answer has more than {limit} bytes")
        if words and late:
            raise RegistryError(f"{words}: the answer does not come to its end")
        response.raw = urllib3.HTTPResponse(io.BytesIO(body[:limit]), preload_content=False)

    def _release(self, response: requests.Response) -> None:
        """Be done with an answer. A short body is read, so that its connection is used again."""
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:12]) <= self.limits.small_body:
            self._load(response, self.limits.small_body)
        response.close()

    def _ask_token_service(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Reply:
        limits = self.limits
        sent = {**headers, "Accept-Encoding": "identity"}
        call = _Call(method, url, sent, limits.token, form)
        words = f"signing in to {self.host} at {Origin.of(url)}"

        def once() -> requests.Response:
            response = self._follow(call)
            strict = words if is_success(response) else ""
            self._load(response, limits.small_body, strict, limits.token)
            return response

        # It is asked on the way to another answer: no turn is waited for here.
        attempts = self.attempts(most=limits.attempts)
        response = self._persist(words, once, repeatable=True, attempts=attempts)
        return Reply(response.status_code, response.content)


def is_success(response: requests.Response) -> bool:
    """Whether the status is one of 200 to 299."""
    return HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES
