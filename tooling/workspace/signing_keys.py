"""The certificate that marks are signed with: keys/ in the workspace, a test chain to begin with.

    keys/certificate.pem    the signing certificate, then those that vouch for it
    keys/private_key.pem    its private key; only the owner may read it
    keys/root.pem           whom a verifier trusts; with a time stamp server, its root certificate as well

A test chain carries an extension that says so, TEST_MARK. Replace the three files by your own from a certificate
authority before you publish, and sign what is there again: `tooling keys sign`.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tooling.errors import InputError, WorkspaceError
from tooling.workspace.files import write_bytes

TEST_NAME = "Homologous_deepfake TEST, not for publication"  # the organisation of every test chain
TEST_MARK = ObjectIdentifier("2.25.74331296160331163526720341164907118934")  # of a random UUID, as X.667 has it
ROOT_VALIDITY, LEAF_VALIDITY = datetime.timedelta(days=3650), datetime.timedelta(days=825)
CERTIFICATE, PRIVATE_KEY, ROOT = "certificate.pem", "private_key.pem", "root.pem"


@dataclass(frozen=True)
class SigningKeys:
    """What signing needs; the private key is not shown in logs.

    Attributes:
        algorithm: C2PA's name: "es256", "es384", "es512", "ps256" or "ed25519".
        chain: PEM, the signing certificate first.
        private_key: PEM.
        root: PEM of whom a verifier trusts.
        subject: the signing certificate's name.
        serial_number: of the signing certificate.
        begins, expires: from when until when it is valid.
        is_test: whether this is a chain that `tooling keys init` makes.
        timestamp_server: URL of the RFC 3161 server that stamps what is signed; "" for none.
    """

    algorithm: str
    chain: bytes
    private_key: bytes
    root: bytes
    subject: str
    serial_number: int
    begins: datetime.datetime
    expires: datetime.datetime
    is_test: bool
    timestamp_server: str = ""

    def __repr__(self) -> str:
        return f"SigningKeys({self.subject!r}, expires={self.expires:%Y-%m-%d})"

    def validity_problem(self) -> str:
        """What is wrong with the certificate's time, and what to do; "" while it is valid."""
        now = datetime.datetime.now(datetime.UTC)
        clock = f"this machine's clock says {now:%Y-%m-%d %H:%M}"
        if now < self.begins:
            days = f"from {self.begins:%Y-%m-%d %H:%M} until {self.expires:%Y-%m-%d}"
            return f"is valid {days}, and {clock} (UTC); set the clock, or put a certificate there that is valid now"
        if now > self.expires:
            renew = "run `tooling keys init --force`" if self.is_test else "put a new one there"
            way_out = f"{renew}, then run `tooling keys sign`; or set the clock if it is wrong"
            return f"expired on {self.expires:%Y-%m-%d %H:%M}, and {clock} (UTC); {way_out}"
        return ""


def init_keys(
    folder: Path,
    *,
    is_replacing: bool = False,
    begins: datetime.datetime | None = None,
    validity: datetime.timedelta = LEAF_VALIDITY,
) -> SigningKeys:
    """Makes a test chain: a root that signs one certificate.

    Args:
        folder: where the three files go.
        is_replacing: whether existing keys may be replaced.
        begins: from when on both are valid; None is a day ago.
        validity: how long the signing certificate is valid.

    Raises:
        WorkspaceError: there are keys already, and they are not to be replaced.
    """
    if not is_replacing and folder.exists() and any(folder.iterdir()):
        raise WorkspaceError(f"{folder}: has keys already; --force replaces them; then `tooling keys sign` signs again")
    folder.mkdir(parents=True, exist_ok=True)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    begins = begins or datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    root = _certificate("root", "root", root_key, root_key, begins, ROOT_VALIDITY)
    leaf = _certificate("signer", "root", key, root_key, begins, validity)
    root_pem, leaf_pem = (one.public_bytes(serialization.Encoding.PEM) for one in (root, leaf))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_private(folder / PRIVATE_KEY, private)
    write_bytes(folder / ROOT, root_pem)
    write_bytes(folder / CERTIFICATE, leaf_pem + root_pem)
    return read_keys(folder)


def read_signing_keys(folder: Path, timestamp_server: str = "") -> SigningKeys:
    """`read_keys` for signing, which needs a certificate that is valid now.

    Raises:
        WorkspaceError, InputError: as `read_keys` and `check_validity`.
    """
    keys = read_keys(folder)
    check_validity(folder, keys)
    return replace(keys, timestamp_server=timestamp_server)


def check_validity(folder: Path, keys: SigningKeys) -> None:
    """Raises InputError if the certificate has expired or is not valid yet, with its time and this machine's."""
    if problem := keys.validity_problem():
        raise InputError(f"{folder / CERTIFICATE}: {problem}")


def read_keys(folder: Path) -> SigningKeys:
    """Reads and checks the three files; the certificate may have expired, as what it signed is still to be checked.

    Raises:
        WorkspaceError: there are none.
        InputError: one is damaged or does not belong to the others.
    """
    if not (folder / CERTIFICATE).is_file():
        raise WorkspaceError(f"{folder}: no signing certificate; run `tooling keys init`, or put your own there")
    try:
        chain, private, root = ((folder / name).read_bytes() for name in (CERTIFICATE, PRIVATE_KEY, ROOT))
        certificates = x509.load_pem_x509_certificates(chain) + x509.load_pem_x509_certificates(root)
        leaf = certificates[0]
        key = serialization.load_pem_private_key(private, password=None)
    except (OSError, ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{folder}: keys cannot be read ({type(error).__name__}); put {CERTIFICATE}, {PRIVATE_KEY} and "
            f"{ROOT} there as PEM"
        ) from error
    if leaf.public_key() != key.public_key():
        raise InputError(f"{folder}: {PRIVATE_KEY} is not the key of {CERTIFICATE}; put the right one there")
    return SigningKeys(
        algorithm=_algorithm(folder, key),
        chain=chain,
        private_key=private,
        root=root,
        subject=leaf.subject.rfc4514_string(),
        serial_number=leaf.serial_number,
        begins=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
        is_test=any(map(_is_test, certificates)),
    )


def _is_test(certificate: x509.Certificate) -> bool:
    """Chains from before TEST_MARK are known by their organisation's whole name."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    is_named = any(name.value == TEST_NAME for name in names)
    return is_named or any(extension.oid == TEST_MARK for extension in certificate.extensions)


def _algorithm(folder: Path, key: PrivateKeyTypes) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384, 521):
        return {256: "es256", 384: "es384", 521: "es512"}[key.curve.key_size]
    raise InputError(f"{folder / PRIVATE_KEY}: is a kind of key that C2PA does not allow; use P-256, RSA or Ed25519")


def _certificate(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    begins: datetime.datetime,
    validity: datetime.timedelta,
) -> x509.Certificate:
    is_root, public = key is signer, key.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*unused, "encipher_only", "decipher_only"), False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + validity)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.UnrecognizedExtension(TEST_MARK, b"\x05\x00"), critical=False)  # DER of NULL
    )
    if not is_root:
        extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(extended, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_NAME), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
