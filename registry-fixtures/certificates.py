"""The certificates of the TLS tests: a private authority, and what it signs, right and wrong."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    def server_context(self, client_authority: Path | None = None) -> ssl.SSLContext:
        """The context of a server that shows this certificate, and may want one of its clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_authority)
        return context


class Authority:
    """A private certificate authority that keeps its files in `folder`."""

    def __init__(self, folder: Path, name: str = "modelpm fixture authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        basic = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(self._name, self._name, self._key, days=30)
            .add_extension(basic, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._own_key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = _write(folder / "authority.pem", _pem(certificate))

    def issue(self, name: str = "127.0.0.1", *, days: int = 30) -> Pair:
        """A certificate for a host, an address or a client; `days` below 0 make it expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            self._own_key_id
        )
        certificate = (
            _builder(_name(name), self._name, key, days)
            .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{name}-{days}".replace("*", "any")
        return Pair(
            _write(self._folder / f"{stem}.pem", _pem(certificate)),
            _write(self._folder / f"{stem}.key", private_pem(key)),
        )

    @property
    def _own_key_id(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


def self_signed(key: Key, name: str) -> x509.Certificate:
    """A certificate that vouches for itself, as token servers use."""
    return _builder(_name(name), _name(name), key, days=30).sign(key, hashes.SHA256())


def private_pem(key: Key) -> bytes:
    """The key as unencrypted PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(days - 30, -1) * day)
        .not_valid_after(now + days * day)
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
