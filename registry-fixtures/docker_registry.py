"""How the real docker-registry is set up: plain, with htpasswd, with TLS, with docker tokens.

What skopeo 1.9.3 can load into it, found by trying:

- `skopeo copy oci:LAYOUT:TAG docker://...` takes OCI image manifests of any artifact, digest kept.
- It skips entries of a layout whose media type is Docker's ("no descriptor found for reference"),
  and as a `dir:` folder refuses them for their layers ("unsupported docker v2s2 media type"). So
  Ollama's artifacts are put with `put`.
- Of an index it copies the child for this platform; with `--all` it copies all children, but writes
  the index anew, without `artifactType`, and with `--preserve-digests` it gives up. So is an index.
- `skopeo inspect` needs `--raw` for artifacts; it reads the configs of container images only.
"""

import base64
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin

import requests
from artifact import Artifact, digest_of
from certificates import Pair, self_signed
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tokenserver import Scopes, TokenServer

USER, PASSWORD = "alice", "s3cret"
"""The one user of a registry with htpasswd."""

SERVICE, ISSUER = "fixture-registry", "fixture-issuer"
STARTING_SECONDS = 20

_GRACE = 60
"""Seconds for which docker-registry takes a token that has expired."""

# bcrypt, the only kind of hash that docker-registry takes, at its lowest cost.
_HTPASSWD = f"{USER}:$2y$05$modelpmfixturesaltxyzuz26RWNUHJ.U14/lU34385OONqKUkcHm\n"


class JwtServer(TokenServer):
    """A token server whose tokens docker-registry accepts: signed, with the certificate inside."""

    def __init__(self, users: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(users, **options)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self_signed(self._key, ISSUER)

    @property
    def certificate(self) -> bytes:
        """The certificate that vouches for the tokens, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def mint(self, user: str, scopes: Scopes) -> str:
        """A JSON web token (RFC 7519) with docker's `access` claim."""
        now = int(time.time())
        chain = self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(chain).decode()]}
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "nbf": now - _GRACE - 10,
            "iat": now,
            "exp": now + int(self.lifetime) - _GRACE,
            "jti": super().mint(user, scopes),
            "access": [
                {"type": "repository", "name": repository, "actions": [action]}
                for repository, action in sorted(scopes)
            ],
        }
        signed = (
            f"{_base64url(json.dumps(head).encode())}.{_base64url(json.dumps(claims).encode())}"
        )
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


class DockerRegistry:
    """The real registry on a free loopback port, up inside its `with` block.

    `htpasswd` wants USER and PASSWORD; `tls` makes it speak https with that certificate, and
    `clients` want a certificate of this authority from who comes; `tokens` sends its clients to
    that server, which has to be up.
    """

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: bool = False,
        tls: Pair | None = None,
        clients: Path | None = None,
        tokens: JwtServer | None = None,
    ) -> None:
        self._folder = folder
        self._htpasswd = htpasswd
        self._tls = tls
        self._clients = clients
        self._tokens = tokens
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""
        """`127.0.0.1:PORT`; known inside the `with` block."""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, or https."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        # YAML is a superset of JSON.
        config = self._folder / "config.yml"
        config.write_text(json.dumps(self._config()))
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        try:
            self.host = self._wait(log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _wait(self, log: Path) -> str:
        """Where it listens, once it does."""
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline:
            match = re.search(r"listening on (127\.0\.0\.1:[0-9]+)", log.read_text())
            if match is not None:
                return match[1]
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"docker-registry did not start: {log.read_text()[-2000:]}")

    def _config(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": "127.0.0.1:0"}
        if self._tls is not None:
            http["tls"] = {"certificate": str(self._tls.certificate), "key": str(self._tls.key)}
            if self._clients is not None:
                http["tls"]["clientcas"] = [str(self._clients)]
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "data")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self._htpasswd:
            path = self._folder / "htpasswd"
            path.write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "fixture", "path": str(path)}}
        if self._tokens is not None:
            bundle = self._folder / "tokens.pem"
            bundle.write_bytes(self._tokens.certificate)
            config["auth"] = {
                "token": {
                    "realm": self._tokens.realm,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(bundle),
                }
            }
        return config


def unavailable(program: str) -> str | None:
    """Why a program of a Debian package of the same name cannot be used, or None if it can."""
    if shutil.which(program) is not None:
        return None
    return f"{program} is not on this machine (try: apt-get install {program})"


def put(url: str, repository: str, reference: str, artifact: Artifact, **options: Any) -> str:
    """Push an artifact as it is, by the distribution API alone. Returns the digest.

    `reference` is a tag or the digest; `options` are those of requests (`auth`, `verify`).
    """
    document = json.loads(artifact.manifest)
    for child in document.get("manifests", []):
        raw = artifact.blobs[child["digest"]]
        below = Artifact(raw, child["mediaType"], artifact.blobs)
        put(url, repository, child["digest"], below, **options)
    base = f"{url}/v2/{repository}"
    with requests.Session() as session:
        session.trust_env = False
        for named in (document.get("config"), *document.get("layers", [])):
            if named is not None:
                _put_blob(session, base, artifact.blobs[named["digest"]], options)
        headers = {"Content-Type": artifact.media_type}
        manifest = f"{base}/manifests/{reference}"
        _checked(session.put(manifest, artifact.manifest, headers=headers, **_bounded(options)))
    return artifact.digest


def _put_blob(
    session: requests.Session, base: str, content: bytes, options: dict[str, Any]
) -> None:
    started = _checked(session.post(f"{base}/blobs/uploads/", **_bounded(options)))
    location = urljoin(base, started.headers["Location"])
    headers = {"Content-Type": "application/octet-stream"}
    digest = {"digest": digest_of(content)}
    _checked(session.put(location, content, params=digest, headers=headers, **_bounded(options)))


def _bounded(options: dict[str, Any]) -> dict[str, Any]:
    return {"timeout": 60, **options}


def _checked(response: requests.Response) -> requests.Response:
    response.raise_for_status()
    return response


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
