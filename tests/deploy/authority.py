"""A throw-away certificate authority. Only clients that are given its certificate trust it."""

from __future__ import annotations

import datetime
import inspect
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority. `certificate` is the file with its own certificate."""

    def __init__(self, home: Path, name: str = "An authority of the tests") -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.certificate = home, home / f"{name}.pem"
        self._name, self._key = _name(name), ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False) | {"key_cert_sign": True}
        known = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate.write_bytes(
            self._sign(self._name, self._key, constraints, x509.KeyUsage(**usage), known)  # type: ignore[arg-type]
        )

    def issue(self, *hosts: str) -> Path:
        """Return a file with the key and certificate of a server with these names. Only its owner may read it."""
        key, at = ec.generate_private_key(ec.SECP256R1()), self.home / f"{hosts[0]}.pem"
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        at.touch(mode=0o600)
        at.write_bytes(private + self._sign(_name(hosts[0]), key, names, issuer))
        return at

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])
