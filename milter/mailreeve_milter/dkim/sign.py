"""Makes DKIM-Signature fields for one message: all keys in one pass over the body (RFC 6376 section 5)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

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
_FORM = BodyForm(Canonicalization.RELAXED)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and what it signs for: `domain` becomes d=, `selector` s=."""

    domain: Domain
    selector: Domain
    private_key: PrivateKey

    @property
    def algorithm(self) -> Algorithm:
        """The a= of its signatures."""
        return Algorithm(f"{key_type(self.private_key)}-sha256")


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """`oversign`: lower-case names of which no field may be added after us; From is always one of them."""

    oversign: tuple[bytes, ...] = (FROM,)


class Signing:
    """The signatures for one message, while its body streams by. Made by `start_signing`."""

    __slots__ = ("_bodies", "_header", "_keys", "_names")

    def __init__(self, header: SignedHeader, names: Sequence[bytes], keys: Sequence[SigningKey]) -> None:
        self._header = header
        self._names = names
        self._keys = keys
        self._bodies = BodyHashes([_FORM] if keys else [])

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, cut anywhere, with CRLF line ends as on the wire."""
        self._bodies.update(chunk)

    def finish(self, now: datetime) -> tuple[HeaderField, ...]:
        """The body is complete: one field a key, in their order, for the top of the header. Called once.

        Values are folded with CRLF and begin with the space after the colon.
        """
        self._bodies.finish()
        return tuple(self._sign(key, int(now.timestamp())) for key in self._keys)

    def _sign(self, key: SigningKey, signed_at: int) -> HeaderField:
        tags = _tag_pieces(key, signed_at, self._names, self._bodies.of(_FORM).digest)
        unsigned = HeaderField(FIELD_NAME, _fold(tags))
        digest = self._header.digest(self._names, Canonicalization.RELAXED, unsigned)
        signature = base64.b64encode(sign_digest(key.private_key, digest))
        # folding the same pieces again gives the same octets up to b=
        return HeaderField(FIELD_NAME, _fold([*tags, *_pieces_of(signature)]))


def start_signing(
    fields: Sequence[HeaderField], keys: Sequence[SigningKey], options: SigningOptions | None = None
) -> Signing:
    """Sign a message whose header, `fields` top down, is complete, with each of the keys.

    A message without exactly one From field has no author to sign for: it gets no signature.
    """
    header = SignedHeader(fields)
    usable = keys if header.count(FROM) == 1 else ()
    return Signing(header, _names_to_sign(header, options or SigningOptions()), usable)


def _names_to_sign(header: SignedHeader, options: SigningOptions) -> list[bytes]:
    """h=: each name once a field, and once more where it is oversigned; From first."""
    oversigned = {FROM, *options.oversign} - NEVER_SIGNED
    names: list[bytes] = []
    for name in (*SIGNED_NAMES, *sorted(oversigned - set(SIGNED_NAMES))):
        count = header.count(name)
        names.extend([name] * (min(count, MAX_FIELDS_A_NAME) + (name in oversigned)))
    return names


def _tag_pieces(key: SigningKey, signed_at: int, names: Sequence[bytes], body_hash: bytes) -> list[bytes]:
    """The field's value up to `b=`, cut where it may be folded."""
    return [
        b" v=1;",
        f" a={key.algorithm.value};".encode("ascii"),
        b" c=relaxed/relaxed;",
        f" d={key.domain};".encode("ascii"),
        f" s={key.selector};".encode("ascii"),
        f" t={signed_at};".encode("ascii"),
        b" h=" + names[0] + b":",
        *(name + b":" for name in names[1:-1]),
        names[-1] + b";",
        b" bh=" + base64.b64encode(body_hash) + b";",
        b" b=",
    ]


def _pieces_of(signature: bytes) -> Iterable[bytes]:
    return (signature[start : start + _BASE64_COLUMNS] for start in range(0, len(signature), _BASE64_COLUMNS))


def _fold(pieces: Iterable[bytes]) -> bytes:
    """The pieces on lines as full as may be, each further line after white space."""
    lines = [b""]
    column = len(FIELD_NAME) + 1
    for piece in pieces:
        if column + len(piece) > MAX_COLUMNS and lines[-1]:
            lines.append(b"")
            piece = b" " + piece.lstrip(b" ")  # noqa: PLW2901 -- the piece as it stands on its line
            column = 0
        lines[-1] += piece
        column += len(piece)
    return CRLF.join(lines)
