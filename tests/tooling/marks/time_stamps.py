"""A time stamp server as RFC 3161 describes it, on this machine: for tests of marks that outlive their certificate."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

INTEGER, OCTETS, OID, TIME, SEQUENCE, SET, FIRST = 0x02, 0x04, 0x06, 0x18, 0x30, 0x31, 0xA0
SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47"
SHA256, ECDSA_SHA256, POLICY = "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2", "1.2.3.4"


@dataclass
class StampServer:
    """What runs and what it was asked.

    Attributes:
        url: of the server.
        root: PEM of its root certificate.
        time: what its stamps say.
        status: HTTP status of its answers.
        num_requests: answered so far.
    """

    url: str
    root: bytes
    time: datetime.datetime
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    status: int = 200
    num_requests: int = field(default=0)

    def answer(self, request: bytes) -> bytes:
        """TimeStampReq -> TimeStampResp, both DER."""
        parts = children(request)
        imprint, nonces = parts[1], [part for part in parts[2:] if part[0] == INTEGER]
        moment = der(TIME, self.time.strftime("%Y%m%d%H%M%SZ").encode())
        info = der(SEQUENCE, number(1), oid(POLICY), imprint, number(self.num_requests), moment, *nonces)
        token = der(SEQUENCE, oid(SIGNED_DATA), der(FIRST, self._signed(info)))
        return der(SEQUENCE, der(SEQUENCE, number(0)), token)

    def _signed(self, info: bytes) -> bytes:
        own = self.certificate.public_bytes(serialization.Encoding.DER)
        essential = der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, der(OCTETS, hashlib.sha256(own).digest()))))
        attributes = b"".join(
            sorted(
                der(SEQUENCE, oid(name), der(SET, value))
                for name, value in (
                    (CONTENT_TYPE, oid(TST_INFO)),
                    (MESSAGE_DIGEST, der(OCTETS, hashlib.sha256(info).digest())),
                    (SIGNING_CERTIFICATE, essential),
                )
            )
        )
        signature = self.key.sign(der(SET, attributes), ec.ECDSA(hashes.SHA256()))
        digest = der(SEQUENCE, oid(SHA256))
        issuer = self.certificate.issuer.public_bytes()
        signer = der(
            SEQUENCE,
            number(1),
            der(SEQUENCE, issuer, number(self.certificate.serial_number)),
            digest,
            der(FIRST, attributes),
            der(SEQUENCE, oid(ECDSA_SHA256)),
            der(OCTETS, signature),
        )
        content = der(SEQUENCE, oid(TST_INFO), der(FIRST, der(OCTETS, info)))
        root = x509.load_pem_x509_certificate(self.root).public_bytes(serialization.Encoding.DER)
        return der(SEQUENCE, number(3), der(SET, digest), content, der(FIRST, own, root), der(SET, signer))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 128:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 128 | len(size))) + size + content


def number(value: int) -> bytes:
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = bytearray((40 * first + second,))
    for value in rest:
        groups = [value & 127]
        while value := value >> 7:
            groups.append(128 | value & 127)
        content += bytes(reversed(groups))
    return der(OID, bytes(content))


def children(element: bytes) -> list[bytes]:
    """The elements inside a constructed one."""
    inside, found = _inside(element), []
    while inside:
        size = len(inside) - len(_after(inside))
        found.append(inside[:size])
        inside = inside[size:]
    return found


def _bounds(content: bytes) -> tuple[int, int]:
    """Where the first element's content begins and ends."""
    start, length = 2, content[1]
    if length > 127:
        start += length - 128
        length = int.from_bytes(content[2:start], "big")
    return start, start + length


def _inside(content: bytes) -> bytes:
    start, end = _bounds(content)
    return content[start:end]


def _after(content: bytes) -> bytes:
    return content[_bounds(content)[1] :]


@contextmanager
def serving_stamps(time: datetime.datetime) -> Iterator[StampServer]:
    """A server whose stamps say `time`, with a chain that was valid then."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root, leaf = _certificate("root", root_key, root_key, time), _certificate("stamps", key, root_key, time)
    made = StampServer("", root.public_bytes(serialization.Encoding.PEM), time, key, leaf)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = made.answer(self.rfile.read(int(self.headers["Content-Length"])))
            made.num_requests += 1
            self.send_response(made.status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, time: datetime.datetime
) -> x509.Certificate:
    is_root, public, year = key is signer, key.public_key(), datetime.timedelta(days=3650)
    usage = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    unused = dict.fromkeys((*usage, "decipher_only"), False)
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stamps"), x509.NameAttribute(NameOID.COMMON_NAME, n)])
        for n in (name, "root")
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(time - datetime.timedelta(days=1))
        .not_valid_after(time + year)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **unused),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(signer, hashes.SHA256())
