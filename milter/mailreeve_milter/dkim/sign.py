"""Makes DKIM-Signature fields for one message: all keys in one pass over the body (RFC 6376 section 5)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.canonical import CRLF, Canonicalization
from mailreeve_milter.dkim.crypto import PrivateKey, key_type, sign_digest
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.signature import FIELD_NAME, Algorithm
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.smtp import Domain

FROM = b"from"

SIGNED_NAMES = (
    # section 5.4.1
    FROM,
    b"reply-to",
    b"subject",
    b"date",
    b"to",
    b"cc",
    b"resent-date",
    b"resent-from",
    b"resent-to",
    b"resent-cc",
    b"in-reply-to",
    b"references",
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    # without these a one-click unsubscription is not believed (RFC 8058 section 4)
    b"list-unsubscribe-post",
    # who sent it, which message it is, and how its body is to be read
    b"sender",
    b"resent-sender",
    b"message-id",
    b"resent-message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"content-id",
    b"content-description",
    b"autocrypt",
)
"""Every field of these names is signed where it is there."""

NEVER_SIGNED = frozenset(
    (
        b"received",
        b"return-path",
        b"authentication-results",
        b"dkim-signature",
        b"bcc",
        b"resent-bcc",
        b"comments",
        b"keywords",
    )
)
"""They change on the way, are added on the way, or are taken out (section 5.4.1)."""

MAX_FIELDS_A_NAME = 16
"""Of more fields of one name the lowest are signed: h= stays bounded whatever is sent to us."""

MAX_COLUMNS = 78
"""Characters of a line (RFC 5322 section 2.1.1); a domain alone may be longer."""

_BASE64_COLUMNS = 70


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and what it signs for: `domain` becomes d=, `selector` s=.

    `identity` becomes i=, an address at `domain` or below it; empty for none.
    """

    domain: Domain
    selector: Domain
    private_key: PrivateKey
    identity: str = ""

    @property
    def algorithm(self) -> Algorithm:
        """The a= of its signatures."""
        return Algorithm(f"{key_type(self.private_key)}-sha256")


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """How to sign. Names of header fields are lower case.

    Each field of `names` is signed where it is there; of `oversign` no field may be added after us. From
    is always one of both, those that must not be signed never are. `valid_for` gives x=.
    """

    oversign: tuple[bytes, ...] = (FROM,)
    names: tuple[bytes, ...] = SIGNED_NAMES
    header: Canonicalization = Canonicalization.RELAXED
    body: Canonicalization = Canonicalization.RELAXED
    valid_for: timedelta | None = None


class Signing:
    """The signatures for one message, while its body streams by. Made by `start_signing`."""

    __slots__ = ("_bodies", "_form", "_header", "_keys", "_names", "_options")

    def __init__(self, header: SignedHeader, keys: Sequence[SigningKey], options: SigningOptions) -> None:
        self._header = header
        self._keys = keys
        self._options = options
        self._names = _names_to_sign(header, options) if keys else []
        self._form = BodyForm(options.body)
        self._bodies = BodyHashes([self._form] if keys else [])

    @property
    def keys(self) -> Sequence[SigningKey]:
        """The keys that sign, none for a message without one author."""
        return self._keys

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, cut anywhere, with CRLF line ends as on the wire."""
        self._bodies.update(chunk)

    def finish(self, now: datetime, leave_out: Sequence[SigningKey] = ()) -> tuple[HeaderField, ...]:
        """The body is complete: one field a key, in their order, for the top of the header. Called once.

        Keys of `leave_out` make none. Values are folded with CRLF and begin with the space after the colon.
        """
        self._bodies.finish()
        seconds = int(now.timestamp())
        return tuple(self._sign(key, seconds) for key in self._keys if key not in leave_out)

    def _sign(self, key: SigningKey, signed_at: int) -> HeaderField:
        tags, column = fold(self._tag_pieces(key, signed_at), len(FIELD_NAME) + 1)
        digest = self._header.digest(self._names, self._options.header, HeaderField(FIELD_NAME, tags))
        signature = base64.b64encode(sign_digest(key.private_key, digest))
        folded, _ = fold(cut(signature, _BASE64_COLUMNS), column)
        return HeaderField(FIELD_NAME, tags + folded)

    def _tag_pieces(self, key: SigningKey, signed_at: int) -> list[bytes]:
        """The field's value up to `b=`, cut where it may be folded."""
        options, names = self._options, self._names
        times = f" t={signed_at};"
        if options.valid_for is not None:
            times += f" x={signed_at + int(options.valid_for.total_seconds())};"
        return [
            b" v=1;",
            f" a={key.algorithm.value};".encode("ascii"),
            f" c={options.header.value}/{options.body.value};".encode("ascii"),
            f" d={key.domain};".encode("ascii"),
            *_identity_pieces(key.identity),
            f" s={key.selector};".encode("ascii"),
            times.encode("ascii"),
            b" h=" + names[0] + b":",
            *[name + b":" for name in names[1:-1]],
            names[-1] + b";",
            b" bh=" + base64.b64encode(self._bodies.of(self._form).digest) + b";",
            b" b=",
        ]


def start_signing(
    fields: Sequence[HeaderField], keys: Sequence[SigningKey], options: SigningOptions | None = None
) -> Signing:
    """Sign a message whose header, `fields` top down, is complete, with each of the keys.

    A message without exactly one From field has no author to sign for: it gets no signature.
    """
    header = SignedHeader(fields)
    usable = keys if header.count(FROM) == 1 else ()
    return Signing(header, usable, options or SigningOptions())


def _names_to_sign(header: SignedHeader, options: SigningOptions) -> list[bytes]:
    """h=: each name once a field, and once more where it is oversigned; From first."""
    names: list[bytes] = []
    for name, once_more in _signable(options):
        if (count := header.count(name)) or once_more:
            names.extend([name] * (min(count, MAX_FIELDS_A_NAME) + once_more))
    return names


@lru_cache(maxsize=256)  # a configuration has a handful
def _signable(options: SigningOptions) -> tuple[tuple[bytes, bool], ...]:
    """The names that may stand in h=, in order, and which of them are oversigned."""
    oversigned = {FROM, *options.oversign}
    names = dict.fromkeys((FROM, *options.names, *sorted(oversigned)))
    return tuple((name, name in oversigned) for name in names if name not in NEVER_SIGNED)


def _identity_pieces(identity: str) -> list[bytes]:
    """i= as dkim-quoted-printable (RFC 6376 section 2.11), cut where it may be folded; none without one."""
    if not identity:
        return []
    encoded = b"".join(
        bytes((octet,)) if 0x21 <= octet <= 0x7E and octet not in b"=;" else b"=%02X" % octet
        for octet in identity.encode("utf-8", "surrogateescape")
    )
    return [b" i=" + encoded + b";"]


def cut(octets: bytes, length: int) -> Iterable[bytes]:
    """Pieces of this length, the last one shorter."""
    return (octets[start : start + length] for start in range(0, len(octets), length))


def fold(pieces: Iterable[bytes], column: int) -> tuple[bytes, int]:
    """The pieces on lines as full as may be, the first from `column` on, each further one after white space.

    With the column after the last piece.
    """
    folded: list[bytes] = []
    for piece in pieces:
        if column + len(piece) > MAX_COLUMNS and column:
            piece = CRLF + b" " + piece.lstrip(b" ")  # noqa: PLW2901 -- the piece as it stands on its line
            column = -len(CRLF)
        folded.append(piece)
        column += len(piece)
    return b"".join(folded), column
