"""The grammar of names: `[registry/]repository[:tag][@digest]`, and what a short name means.

Source: distribution spec 1.1, "Pulling manifests"; the short forms are modelpm's own:

    llama2              DEFAULT_REGISTRY/llama2:latest
    team/llama2:7b      the default registry's host, team/llama2:7b
    localhost:5000/a    a first component with a dot or a colon, or localhost, is a host
    a@sha256:...        pinned; with a tag and a digest the digest decides
    ghcr.io, h.lan:80   refused: what reads as a registry alone is no model of the default one

ASCII only: a look-alike letter is an error, never a different model.
"""

import re
from dataclasses import dataclass

from modelpm.errors import InvalidReferenceError
from modelpm.oci.descriptor import Digest

DEFAULT_REGISTRY = "registry.ollama.ai/library"
DEFAULT_TAG = "latest"
MAX_NAME = 255

_UPPER_CASE_HOSTS = frozenset({"hf.co", "huggingface.co"})
_HOST = re.compile(
    r"""(?: (?!-)[a-z0-9-]{1,63}(?<!-) (?: \. (?!-)[a-z0-9-]{1,63}(?<!-) )*   # DNS or IPv4
          | \[ [0-9a-f]{0,4} (?: : [0-9a-f]{0,4} ){2,7} \] )                 # IPv6
        (?: : ([1-9][0-9]{0,4}) )?""",
    re.VERBOSE,
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_MIXED = r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*"
_MIXED_PATH = re.compile(rf"{_MIXED}(?:/{_MIXED})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NO_REPOSITORY = (
    "it reads as a registry, and the repository is missing (HOST:PORT/REPOSITORY);"
    " a model that is called so needs its registry before it"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a model is: a registry's host, a repository in it, and a tag or a digest.

    `registry` is lower case, with its port if it has one. At least one of `tag` and `digest` is
    set; with both, the digest decides which bytes are meant.
    """

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, default_registry: str = DEFAULT_REGISTRY) -> "Reference":
        """Read a name as people type it. Raises InvalidReferenceError.

        `default_registry` is HOST or HOST/NAMESPACE; the namespace goes before names of one
        component only.
        """
        if not text.isascii():  # before anything is lowered: a Kelvin sign lowers to a k
            raise _invalid(text, "a name has ASCII characters only")
        name, _, digest_text = text.partition("@")
        if _reads_as_host(name):
            raise _invalid(text, _NO_REPOSITORY)
        digest = Digest.parse(digest_text) if "@" in text else None
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            head, tag = name, ""
        elif _TAG.fullmatch(tag) is None:
            raise _invalid(text, "the tag has a character or a length that tags do not have")
        host, repository = _split(text, head, default_registry)
        if not tag and digest is None:
            tag = DEFAULT_TAG
        return cls(host, repository, tag or None, digest)

    @property
    def name(self) -> str:
        """The full name that a store lists: `repository:tag`, or `repository@digest` if pinned."""
        end = f":{self.tag}" if self.digest is None else f"@{self.digest}"
        return f"{self.registry}/{self.repository}{end}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return str(self.digest or self.tag)

    def short(self, default_registry: str = DEFAULT_REGISTRY) -> str:
        """The name without the default registry and namespace; it parses to this reference."""
        bare = self.name.removeprefix(f"{default_registry}/")
        if "/" not in bare and not _reads_as_host(bare.partition("@")[0]):
            return bare
        inner = self.name.removeprefix(f"{default_registry.partition('/')[0]}/")
        first, slash, _ = inner.partition("/")
        return inner if slash and not _is_host(first) else self.name

    def __str__(self) -> str:
        return self.name


def _split(text: str, head: str, default_registry: str) -> tuple[str, str]:
    """The host and the repository that `head` names, checked."""
    first, slash, rest = head.partition("/")
    if slash and _is_host(first):
        if not rest:
            raise _invalid(text, _NO_REPOSITORY)
        host, repository = first, rest
    else:
        host, _, namespace = default_registry.partition("/")
        repository = head if slash or not namespace else f"{namespace}/{head}"
    host = host.lower()
    match = _HOST.fullmatch(host)
    if match is None or (match[1] and int(match[1]) >= 2**16):
        raise _invalid(text, f"{host[:100]!r} is not a host")
    if host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        host = "docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    grammar = _MIXED_PATH if host in _UPPER_CASE_HOSTS else _PATH
    if grammar.fullmatch(repository) is None:
        raise _invalid(text, "names are lower-case letters and digits, joined by . _ - or /")
    if len(repository) > MAX_NAME:
        raise _invalid(text, f"a repository's name has at most {MAX_NAME} characters")
    return host, repository


def _is_host(component: str) -> bool:
    return "." in component or ":" in component or component.lower() == "localhost"


def _reads_as_host(name: str) -> bool:
    """Whether one component, with its tag, is what people write for a registry.

    Taken for a model it would be sent to the default registry, which may be a public one. Versions
    have dots too, but no top-level domain begins with a digit: `llama3.2:3b` is a model.
    """
    if "/" in name:
        return False
    head, _, tag = name.partition(":")
    *labels, last = head.split(".")
    if not labels:
        return last.lower() == "localhost" or last.startswith("[")
    is_address = all(label.isdecimal() for label in (*labels, last))
    return is_address or tag.isdecimal() or last[:1].isalpha()


def _invalid(text: str, why: str) -> InvalidReferenceError:
    return InvalidReferenceError(f"{text[:300]!r} is not a model's name: {why}")
