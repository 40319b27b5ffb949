"""Mirrors: whoever has the right bytes is good enough, and a bad one costs a moment only.

Through a client's pull, for the store's second attempt is part of what is promised.
"""

import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifact import Artifact, described, digest_of, image
from certificates import Authority
from gguf_writer import tiny_llama
from registry import Basic, Registry

from modelpm.client import Client
from modelpm.errors import ModelPMError, NotFoundError, RegistryError
from modelpm.oci.reference import Reference
from modelpm.registry.hosts import Hosts, HostSettings, Mirror
from modelpm.registry.limits import Limits
from modelpm.registry.mirrored import MISSES, REST, MirrorClient, Mirrored, patience
from modelpm.registry.repository import Repository
from modelpm.remotes import Remotes
from tests.registry.conftest import NAME, QUICK, Always, Bench
from tests.registry.test_client import closed_port

GGUF = tiny_llama() + bytes(range(256)) * 1024
"""Larger than what a store reads into memory."""


LIMITS = replace(QUICK, connect=0.3, slow_window=0.5, retry_after_max=0.05)
LAYER = digest_of(GGUF)
KIND = "application/vnd.ollama.image.model"


def model() -> Artifact:
    config = b'{"model_format": "gguf"}'
    layers = [described(KIND, GGUF)]
    return image(described(f"{KIND}.config", config), layers, [GGUF, config])


class Company:
    """A registry that wants a login, its mirrors, and a client that knows the registry's login."""

    def __init__(self, bench: Bench, home: Path) -> None:
        self.bench = bench
        self.home = home
        self.registry = bench.registry(auth=Basic("alice", "s3cret-of-alice"))
        self.registry.add(NAME, "latest", model())

    def mirror(self, scenario: Any = (), name: str = NAME, **options: Any) -> Registry:
        registry = self.bench.registry(scenario, **options)
        registry.add(name, "latest", model())
        return registry

    def pull(self, *mirrors: str, own: Mapping[str, HostSettings] | None = None) -> None:
        """Pull, check the store, and see that only the registry has heard its secret."""
        plain = HostSettings(mirrors=mirrors, insecure_login=True)
        hosts = Hosts(own={self.registry.host: plain, **(own or {})})
        with Client(self.home, hosts=hosts, credentials=Always(), limits=LIMITS) as client:
            started = time.monotonic()
            pulled = client.pull(f"{self.registry.host}/{NAME}")
            assert time.monotonic() - started < 20
            assert pulled.path.read_bytes() == GGUF
            assert client.store.check() == []


@pytest.fixture
def company(bench: Bench, tmp_path: Path) -> Company:
    return Company(bench, tmp_path / "home")


def test_what_a_mirror_has_is_not_asked_for_elsewhere(company: Company) -> None:
    mirror = company.mirror()
    company.pull(mirror.url)
    assert company.registry.log == ()
    assert len(mirror.log) == 3
    for request in mirror.log:
        assert f"?ns={company.registry.host.replace(':', '%3A')}" in request.path
        assert not request.has_secret


@pytest.mark.parametrize("prefix", ["/v2/proxy/ghcr", "/proxy/ghcr/", "/v2/proxy/ghcr/"])
def test_a_mirror_may_have_a_prefix(company: Company, prefix: str) -> None:
    mirror = company.mirror(name=f"proxy/ghcr/{NAME}")
    company.pull(mirror.url + prefix)
    assert company.registry.log == ()
    assert all(f"/v2/proxy/ghcr/{NAME}/" in request.path for request in mirror.log)


BLOBS, MANIFESTS = {"path": "/blobs/"}, {"path": "/manifests/"}
FAULTS: list[dict[str, Any]] = [
    {"status": 404},
    {"status": 401},
    {"challenge": 'Basic realm="x"'},
    {"challenge": 'Bearer realm="http://10.1.2.3/token"'},
    {"status": 403},
    {"status": 429, "headers": {"Retry-After": "3600"}},
    {"status": 500},
    {"status": 503, "headers": {"Retry-After": "3600"}},
    {"status": 200, "body": "<html>please log in</html>"},
    {"redirect": "/v2/again"},
    {"redirect": "ftp://elsewhere/"},
    {"cut": 0},
    {"delay": 60},
    BLOBS | {"flip": 100},
    BLOBS | {"flip": len(GGUF) - 1},
    BLOBS | {"append": 1},
    BLOBS | {"drop": 1},
    BLOBS | {"endless": True},
    BLOBS | {"gzip": True},
    BLOBS | {"cut": 70_000},
    BLOBS | {"stall": 70_000},
    BLOBS | {"rate": 2_000},
    BLOBS | {"status": 503},
    BLOBS | {"status": 404},
    BLOBS | {"status": 416},
    MANIFESTS | {"nth": 1, "status": 404},
    MANIFESTS | {"nth": 1, "flip": 3},
    MANIFESTS | {"headers": {"Docker-Content-Digest": "sha256:" + 64 * "0"}},
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_bad_mirror_costs_a_moment(company: Company, fault: dict[str, Any]) -> None:
    mirror = company.mirror([fault])
    company.pull(mirror.url)
    assert company.registry.log
    assert not any(request.has_secret for request in mirror.log)


def test_a_mirror_that_is_not_there_is_left_alone_for_a_while(company: Company) -> None:
    mirror = f"127.0.0.1:{closed_port()}"
    company.pull(f"http://{mirror}", f"https://{mirror}", "http://[::1]:1")
    assert company.registry.log


def test_a_mirror_that_lets_nobody_in_costs_a_moment(company: Company) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # which nobody takes; the kernel drops what comes after them
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        company.pull(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert company.registry.log


def several(count: int = 6) -> Artifact:
    """A model of some layers, the first of which is the weights."""
    config = b'{"model_format": "gguf"}'
    others = [f"license {number}".encode() for number in range(count)]
    layers = [described(KIND, GGUF)]
    layers += [described("application/vnd.ollama.image.license", text) for text in others]
    blobs = [GGUF, config, *others]
    return image(described(f"{KIND}.config", config), layers, blobs)


def test_a_mirror_without_the_repository_is_asked_once(bench: Bench, tmp_path: Path) -> None:
    registry, mirror = bench.registry(), bench.registry()
    for tag in ("v1", "v2"):
        registry.add(NAME, tag, several())
    hosts = Hosts(own={registry.host: HostSettings(mirrors=(mirror.url,))})
    with Client(tmp_path, hosts=hosts, limits=LIMITS) as client:
        for tag in ("v1", "v2"):
            client.pull(f"{registry.host}/{NAME}:{tag}")
    assert len(mirror.log) == 1


def test_a_mirror_without_the_manifest_is_asked_for_few_blobs(company: Company) -> None:
    mirror = company.bench.registry([{"status": 404}])
    company.registry.add(NAME, "latest", several())
    company.pull(mirror.url)
    asked = Counter(request.path for request in mirror.log)
    assert set(asked.values()) == {1}
    assert len(mirror.requests(path="/manifests/")) == 2  # by its tag, by its digest
    assert len(mirror.requests(path="/blobs/")) == MISSES


def test_a_mirror_without_the_manifest_may_have_blobs(company: Company) -> None:
    company.registry.add(NAME, "latest", several())
    mirror = company.mirror([MANIFESTS | {"status": 404}])
    mirror.add(NAME, "other", several())
    company.pull(mirror.url)
    assert company.registry.requests(path="/blobs/") == ()
    assert len(mirror.requests(method="HEAD")) == 1


def test_a_mirror_with_the_weights_alone_is_used(company: Company) -> None:
    mirror = company.bench.registry([MANIFESTS | {"status": 404}])
    mirror.add_artifact(NAME, "other", [(KIND, GGUF)])
    company.pull(mirror.url)
    assert company.registry.requests(path=f"/blobs/{LAYER}") == ()


def test_a_mirror_that_cannot_be_asked_whether_is_asked_for_it(company: Company) -> None:
    mirror = company.mirror(
        [MANIFESTS | {"status": 404}, {"path": "/blobs/", "method": "HEAD", "status": 405}]
    )
    company.pull(mirror.url)
    assert company.registry.requests(path="/blobs/") == ()


def test_mirrors_are_asked_in_their_order(company: Company) -> None:
    wrong = company.mirror([BLOBS | {"flip": 1}])
    broken = company.mirror([BLOBS | {"cut": 90_000}])
    good = company.mirror()
    company.pull(wrong.url, broken.url, good.url)
    assert wrong.requests(path="/manifests/")
    assert not broken.requests(path="/manifests/")
    # What the first one gave was wrong to its last byte; the others have one chance each after it.
    assert len(wrong.requests(path=f"/blobs/{LAYER}")) == 1
    assert company.registry.log == ()


def test_what_one_began_another_one_goes_on_with(company: Company) -> None:
    broken = company.mirror(
        [{"path": LAYER, "skip": 1, "status": 503}, {"path": LAYER, "cut": 200_000}]
    )
    good = company.mirror()
    company.pull(broken.url, good.url)
    ranged = [r.headers["range"] for r in good.requests(path="/blobs/") if "range" in r.headers]
    assert ranged
    assert not ranged[0].startswith("bytes=0-")


def test_where_all_fail_the_registrys_own_word_counts(company: Company) -> None:
    mirror = company.mirror([{"status": 503}])
    company.registry.scenario = [{"status": 404}]
    with pytest.raises(NotFoundError, match=rf"pulling {company.registry.host}/{NAME}:latest: 404"):
        company.pull(mirror.url)


def test_without_the_registry_the_mirror_will_do(company: Company) -> None:
    mirror = company.mirror()
    company.registry.scenario = [{"status": 503}]
    company.pull(mirror.url)


# Secrets


def test_a_mirror_with_tls_is_sent_its_own_credentials(
    company: Company, bench: Bench, tmp_path: Path
) -> None:
    """`Always` knows one for each host, and so stands for what the user saved for this mirror."""
    authority = Authority(tmp_path)
    mirror = company.mirror(
        auth=Basic("alice", "s3cret-of-alice"), tls=authority.issue().server_context()
    )
    own = {mirror.host: HostSettings(ca_file=str(authority.certificate))}
    company.pull(mirror.url, own=own)
    assert company.registry.log == ()


def test_a_mirror_without_tls_is_read_anonymously(company: Company) -> None:
    mirror = company.mirror(auth=Basic("alice", "s3cret-of-alice"))
    company.pull(mirror.url)
    assert not any(request.has_secret for request in mirror.log)
    assert company.registry.log


def test_unless_its_own_settings_say_so(company: Company) -> None:
    mirror = company.mirror(auth=Basic("alice", "s3cret-of-alice"))
    company.pull(mirror.url, own={mirror.host: HostSettings(insecure_login=True)})
    assert company.registry.log == ()


def test_a_mirror_with_https_is_never_spoken_to_without_tls(company: Company) -> None:
    mirror = company.mirror()
    company.pull(mirror.url.replace("http:", "https:"))
    assert mirror.log == ()
    assert company.registry.log


# The rest of reading


def mirrored(registry: Registry, *mirrors: str) -> tuple[Remotes, Mirrored]:
    hosts = Hosts(own={registry.host: HostSettings(mirrors=mirrors)})
    remotes = Remotes(hosts, None, QUICK, lambda _event: None)
    source = remotes.source(Reference.parse(f"{registry.host}/{NAME}"))
    assert isinstance(source, Mirrored)
    return remotes, source


def test_referrers_are_the_registrys_if_it_answers(bench: Bench) -> None:
    registry, mirror, down = bench.registry(), bench.registry(), bench.registry([{"status": 500}])
    for each in (registry, mirror):
        each.add(NAME, "latest", model())
    remotes, source = mirrored(registry, down.url, mirror.url)
    subject = source.resolve("latest")
    assert list(source.referrers(subject)) == []
    assert registry.requests(path="/referrers/")
    assert not mirror.requests(path="/referrers/")
    registry.scenario = [{"status": 500}]
    assert list(source.referrers(subject)) == []
    assert mirror.requests(path="/referrers/")
    mirror.scenario = [{"status": 500}]
    with pytest.raises(RegistryError, match=f"of {registry.host}/"):
        source.referrers(subject)
    remotes.close()


def test_what_cannot_be_verified_before_it_is_given_is_the_registrys(bench: Bench) -> None:
    registry, mirror = bench.registry(), bench.registry()
    content = bytes(4 * 2**20 + 1)
    for each in (registry, mirror):
        each.add_artifact(NAME, "latest", [("application/octet-stream", content)])
    remotes, source = mirrored(registry, mirror.url)
    big = replace(
        source.resolve("latest"), media_type="application/octet-stream", size=len(content)
    )
    with source.fetch(replace(big, digest=big.digest.of(content))) as stream:
        assert stream.read(10) == bytes(10)
    assert registry.requests(path="/blobs/")
    assert not mirror.requests(path="/blobs/")
    remotes.close()


def test_a_mirror_that_failed_rests_and_is_asked_again_later(bench: Bench) -> None:
    registry, mirror = bench.registry(), bench.registry([{"status": 500}])
    registry.add(NAME, "latest", model())
    now = [0.0]
    client = MirrorClient(
        Mirror.parse(mirror.url),
        registry.host,
        hosts=Hosts(),
        credentials=Always(),
        limits=QUICK,
        clock=lambda: now[0],
    )
    bench.closing(client)
    source = Mirrored(bench.repository(registry), [(client, Repository(client, NAME))])
    asked = []
    for moment in (1.0, 2.0, REST, REST + 2):
        now[0] = moment
        source.resolve("latest")
        asked.append(len(mirror.log))
    assert asked[0] == asked[1] == asked[2] > 0
    assert asked[3] > asked[2]


def test_without_mirrors_the_repository_itself_is_read(bench: Bench) -> None:
    remotes = Remotes(Hosts(), None, None, lambda _event: None)
    assert isinstance(remotes.source(Reference.parse("reg.example/a/b")), Repository)
    remotes.close()


def test_a_mirror_that_cannot_have_such_a_name_is_left_out(bench: Bench) -> None:
    hosts = Hosts(own={"hf.co": HostSettings(mirrors=("https://cache.example",))})
    remotes = Remotes(hosts, None, None, lambda _event: None)
    source = remotes.source(Reference.parse("hf.co/Acme/Tiny"))
    assert isinstance(source, Mirrored)
    assert source._places == []
    remotes.close()


def test_a_mirror_is_waited_for_less() -> None:
    less = patience(Limits())
    assert (less.connect, less.no_progress, less.attempts, less.retry_after_max) == (3, 10, 2, 1)
    assert (less.token, less.document) == (10, 10)
    assert patience(less) == less
    assert patience(QUICK).connect == 3


MIRRORS = [
    ("https://cache.example", Mirror("cache.example")),
    ("cache.example", Mirror("cache.example")),
    ("HTTPS://Cache.Example/", Mirror("cache.example")),
    ("https://cache.example:8443/v2", Mirror("cache.example:8443")),
    ("https://cache.example/v2/a/b", Mirror("cache.example", prefix="a/b")),
    ("https://cache.example/v2x/b", Mirror("cache.example", prefix="v2x/b")),
    ("http://127.0.0.1:30020", Mirror("127.0.0.1:30020", plain_http=True)),
    ("http://cache", Mirror("cache:80", plain_http=True)),
    ("https://cache/a", Mirror("cache:443", prefix="a")),
    ("http://localhost/a", Mirror("localhost", plain_http=True, prefix="a")),
    ("http://[::1]:5000/a", Mirror("[::1]:5000", plain_http=True, prefix="a")),
]


@pytest.mark.parametrize(("url", "mirror"), MIRRORS)
def test_a_mirrors_url_is_read(url: str, mirror: Mirror) -> None:
    assert Mirror.parse(url) == mirror


@pytest.mark.parametrize(
    "url",
    ["", "http://", "ftp://a.example", "https://me:s3cret@a.example", "https://a.example/A",
     "https://a.example/?ns=x", "https://a.example//b", "https://a b.example", "a.example/../b",
     "https://a.example:0", "https://" + "a" * 400],
)  # fmt: skip
def test_what_is_no_url_of_a_mirror_is_refused(url: str) -> None:
    with pytest.raises(ModelPMError, match="a mirror is https://HOST") as caught:
        Mirror.parse(url)
    assert "s3cret" not in str(caught.value)
