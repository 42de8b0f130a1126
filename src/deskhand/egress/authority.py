"""The installation's certificate authority: its key never leaves the server, its certificate is what containers trust.

Certificates follow RFC 5280 as strict verifiers read it (key identifiers, key usage, a path length of zero).
"""

import datetime
import ipaddress
import os
import ssl
from collections import OrderedDict
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .files import keep_private
from .hosts import BadHost, is_address, normalise

CA_FILE: Final = "egress_ca.pem"
TRUST_STORE_PASSWORD: Final = "changeit"
"""Of the container's Java trust store, which holds public certificates only; Java's own default."""

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 30
RENEW_DAYS: Final = 7
MOST_LEAVES: Final = 512


class Authority:
    """Makes the certificates with which the proxy speaks for a host. One key serves them all."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, datetime.datetime]] = OrderedDict()

    @classmethod
    def kept(cls, data_dir: Path) -> "Authority":
        """The authority of a data directory, made at the first start (mode 0600)."""
        pem = keep_private(data_dir / CA_FILE, _make)
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key, x509.load_pem_x509_certificate(pem))

    @property
    def certificate(self) -> bytes:
        """The authority's certificate as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def with_host(self) -> bytes:
        """The same, and the certificates that the host trusts: for containers that see other servers' own."""
        return _host_bundle() + self.certificate

    def context(self, host: str) -> ssl.SSLContext:
        """What answers as `host` and as nobody else: a client that names another server is refused (RFC 6066, 3)."""
        now = datetime.datetime.now(datetime.UTC)
        known = self._contexts.get(host)
        if known is not None and known[1] > now:
            self._contexts.move_to_end(host)
            return known[0]
        context = _server_context(self._leaf(host, now), self._leaf_key, host)
        self._contexts[host] = context, now + datetime.timedelta(days=LEAF_DAYS - RENEW_DAYS)
        self._contexts.move_to_end(host)
        while len(self._contexts) > MOST_LEAVES:
            self._contexts.popitem(last=False)
        return context

    def _leaf(self, host: str, now: datetime.datetime) -> x509.Certificate:
        name = x509.IPAddress(ipaddress.ip_address(host)) if is_address(host) else x509.DNSName(host)
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateBuilder()
            # The subject stays empty: a common name has room for 64 characters only (X.520).
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signature=True, certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._leaf_key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def trust_store(bundle: bytes) -> bytes:
    """Certificates (PEM) as Java reads them (PKCS #12)."""
    found = x509.load_pem_x509_certificates(bundle)
    entries = [PKCS12Certificate(cert, f"{number}".encode()) for number, cert in enumerate(found)]
    return serialize_java_truststore(entries, BestAvailableEncryption(TRUST_STORE_PASSWORD.encode()))


def _make() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Deskhand"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Deskhand egress {os.urandom(4).hex()}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signature=False, certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + _private(key)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(*, signature: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _server_context(leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0
    fd = os.memfd_create("leaf", os.MFD_CLOEXEC)  # the ssl module reads certificates from files only
    try:
        os.write(fd, leaf.public_bytes(serialization.Encoding.PEM) + _private(key))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)

    def check(_: ssl.SSLSocket | ssl.SSLObject, named: str | None, __: ssl.SSLContext) -> int | None:
        return None if _names(named, host) else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = check
    return context


def _names(named: str | None, host: str) -> bool:
    if named is None:  # an address has no place in the extension (RFC 6066, 3)
        return is_address(host)
    try:
        return normalise(named) == host
    except BadHost:
        return False


def _host_bundle() -> bytes:
    """The certificates that the host trusts; empty if it has none in a file."""
    paths = ssl.get_default_verify_paths()
    for place in (
        paths.cafile or paths.openssl_cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ):
        path = Path(place)
        if path.is_file():
            data = path.read_bytes()
            return data if data.endswith(b"\n") else data + b"\n"
    return b""
