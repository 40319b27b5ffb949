"""Names: what people type, what it means, what is refused, and the way back to the short form."""

import random

import pytest

from modelpm.errors import InvalidReferenceError
from modelpm.oci.descriptor import Digest
from modelpm.oci.reference import DEFAULT_REGISTRY, MAX_NAME, Reference

D1 = f"sha256:{'1' * 64}"
D512 = f"sha512:{'2' * 128}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("llama2", "registry.ollama.ai/library/llama2:latest"),
        ("llama2:7b-chat", "registry.ollama.ai/library/llama2:7b-chat"),
        ("team/llama2:7b", "registry.ollama.ai/team/llama2:7b"),
        ("a/b/c/d", "registry.ollama.ai/a/b/c/d:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("localhost/a:t", "localhost/a:t"),
        ("LOCALHOST:5000/a", "localhost:5000/a:latest"),
        ("GHCR.io/acme/tiny:1.0", "ghcr.io/acme/tiny:1.0"),
        ("127.0.0.1:65535/a:b", "127.0.0.1:65535/a:b"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("[fe80::1]/a:b", "[fe80::1]/a:b"),
        ("docker.io/llama", "docker.io/library/llama:latest"),
        ("index.docker.io/ai/llama", "docker.io/ai/llama:latest"),
        ("registry-1.docker.io/llama", "docker.io/library/llama:latest"),
        ("hf.co/Org/Model-GGUF:Q4_K_M", "hf.co/Org/Model-GGUF:Q4_K_M"),
        ("a-b.c/x__y/z--w_1.2:_T.-x", "a-b.c/x__y/z--w_1.2:_T.-x"),
        (f"a@{D1}", f"registry.ollama.ai/library/a@{D1}"),
        (f"a:7b@{D1}", f"registry.ollama.ai/library/a@{D1}"),
        (f"h.io/a@{D512}", f"h.io/a@{D512}"),
        (f"a:{'t' * 128}", f"registry.ollama.ai/library/a:{'t' * 128}"),
        (f"h.io/{'r' * MAX_NAME}", f"h.io/{'r' * MAX_NAME}:latest"),
        ("llama2:5000", "registry.ollama.ai/library/llama2:5000"),
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        ("qwen2.5-coder:7b", "registry.ollama.ai/library/qwen2.5-coder:7b"),
        (f"phi3.5@{D1}", f"registry.ollama.ai/library/phi3.5@{D1}"),
        ("library/tiny.llama:8", "registry.ollama.ai/library/tiny.llama:8"),
        ("localhost.1", "registry.ollama.ai/library/localhost.1:latest"),
        ("con:aux.t", "registry.ollama.ai/library/con:aux.t"),
    ],
)
def test_what_a_name_means(text: str, name: str) -> None:
    reference = Reference.parse(text)
    assert reference.name == str(reference) == name
    assert Reference.parse(name).name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "a:",
        "a@",
        ":t",
        "a:-t",
        "a:.t",
        f"a:{'t' * 129}",
        "a:b:c",
        "a:t t",
        "a:t\n",
        "a\n",
        "a\0",
        " a",
        "a ",
        "A",
        "Team/a",
        "../../etc/x:t",
        "a/../b",
        "a/./b",
        "a//b",
        "/a",
        "a/",
        "a/.",
        ".hidden/a",
        "a/.hidden",
        "-a",
        "--help",
        "-rf",
        "@file",
        "a_",
        "a___b",
        "a..b",
        "a.-b/c/d:e/f:g",
        f"h.io/{'r' * (MAX_NAME + 1)}",
        "h.io:0/a",
        "h.io:65536/a",
        "h.io:080/a",
        "h.io:99999999/a",
        "h.io:/a",
        "h.io:x/a",
        "-h.io/a",
        "h-.io/a",
        "h..io/a",
        ".io/a",
        "h.io./a",
        f"{'h' * 64}.io/a",
        "h_x.io/a",
        "[::1/a",
        "::1/a",
        "[]/a",
        "[..]/a",
        "[::1]x/a",
        "[1:2:3:4:5:6:7:8:9]/a",
        "user@h.io/a",
        "https://h.io/a",
        "h.io/a?x=y",
        "h.io/a#x",
        "h.io/a%2fb",
        "h.io\\a",
        "l\u0430ma",  # a Cyrillic a
        "\uff4clama",  # a full-width l
        "lla\u200dma",
        "\u212aind.io/a",  # a Kelvin sign, which lowers to a k
        "doc\u212aer.io/a",
        "a:\u0661",
        "\x1b[31ma",
        f"a@{D1.upper()}",
        f"a@{D1}\n",
        f"a@{D1}0",
        f"a@{D1[:-1]}",
        f"a@{D1}@{D1}",
        f"a@md5:{'1' * 32}",
        "a@sha256:../..",
        "a" * 1_000_000 + "/",
        "a-" * 500_000,
    ],
)
def test_what_is_no_name_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "LocalHost:5000",
        "localhost:latest",
        f"localhost:5000@{D1}",
        "10.0.0.5",
        "10.0.0.5:5000",
        "127.0.0.1:x",
        "[::1]",
        "[::1]:5000",
        "registry.lan:5000",
        "registry2.5:5000",
        "GHCR.io",
        "ghcr.io:latest",
        f"hf.co@{D1}",
        "a.xn--p1ai",
        "tiny.llama",
        "ghcr.io/",
        "localhost:5000/",
        "registry:5000/",
    ],
)
def test_a_registry_alone_is_no_model_of_the_default_one(text: str) -> None:
    for default in (DEFAULT_REGISTRY, "localhost:5000"):
        with pytest.raises(InvalidReferenceError, match=r"is missing \(HOST:PORT/REPOSITORY\)"):
            Reference.parse(text, default)


def test_with_a_tag_and_a_digest_the_digest_decides() -> None:
    reference = Reference.parse(f"h.io/a:t@{D1}")
    assert (reference.tag, reference.target) == ("t", D1)
    assert reference.digest == Digest.parse(D1)
    assert Reference.parse("h.io/a:t").target == "t"
    assert Reference.parse(f"h.io/a@{D1}").tag is None


@pytest.mark.parametrize(
    ("default", "text", "name", "short"),
    [
        (DEFAULT_REGISTRY, "llama2", "registry.ollama.ai/library/llama2:latest", "llama2:latest"),
        (DEFAULT_REGISTRY, "team/a", "registry.ollama.ai/team/a:latest", "team/a:latest"),
        (DEFAULT_REGISTRY, "h.io/a", "h.io/a:latest", "h.io/a:latest"),
        ("localhost:5000", "a", "localhost:5000/a:latest", "a:latest"),
        ("localhost:5000", "b/a", "localhost:5000/b/a:latest", "b/a:latest"),
        ("localhost:5000/n", "a", "localhost:5000/n/a:latest", "a:latest"),
        ("localhost:5000/n", "n/m/a", "localhost:5000/n/m/a:latest", "n/m/a:latest"),
        ("localhost:5000/n/m", "a", "localhost:5000/n/m/a:latest", "a:latest"),
        ("localhost:5000/n", "localhost:5000/h.io/a", "localhost:5000/h.io/a:latest", None),
        ("docker.io", "a", "docker.io/library/a:latest", "library/a:latest"),
        ("h.io/n", "h.io/n/tiny.a", "h.io/n/tiny.a:latest", "n/tiny.a:latest"),
        ("h.io", "h.io/b2.5:80", "h.io/b2.5:80", None),
        ("h.io", f"a@{D1}", f"h.io/a@{D1}", f"a@{D1}"),
    ],
)
def test_the_default_registry_fills_in_and_is_left_out(
    default: str, text: str, name: str, short: str | None
) -> None:
    reference = Reference.parse(text, default)
    assert reference.name == name
    assert reference.short(default) == (short or name)


@pytest.mark.parametrize("default", ["", "/n", "h.io//", "h.io/N", "h h/n", "h.io/../n", "-x/n"])
def test_a_bad_default_registry_is_refused(default: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Reference.parse("a", default)


def test_a_short_name_always_leads_back() -> None:
    chance = random.Random(1)
    hosts = ["localhost", "localhost:5000", "h.io", "docker.io", "hf.co", "registry.ollama.ai"]
    pieces = ["library", "a", "b-c", "x.y", "localhost", "n", "d_e"]
    for _ in range(3_000):
        path = "/".join(chance.choices(pieces, k=chance.randint(1, 4)))
        end = chance.choice(["", ":t", ":5000", f"@{D1}"])
        reference = Reference.parse(f"{chance.choice(hosts)}/{path}{end}")
        spaces = "/".join(["", *chance.choices(pieces, k=chance.randrange(3))])
        default = chance.choice(hosts) + spaces
        again = Reference.parse(reference.short(default), default)
        assert again.name == reference.name, (default, reference.short(default))
