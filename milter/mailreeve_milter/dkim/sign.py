"""Makes DKIM-Signature fields for one message: all keys in one pass over the body (RFC 6376 section 5)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.canonical import CRLF, Canonicalization
from mailreeve_milter.dkim.crypto import PrivateKey, key_type, sign_digest
from mailreeve_milter.dkim.header_hash import SignedHeader, unsigned_form
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
_FOLD = CRLF + b" "

REMEMBERED_FRAMES = 512
"""Signatures that are kept but for what each message adds: mail of one key with the same fields needs one.
They take half a megabyte as a rule, and 4 if all name every field as often as they may."""

# stand for what is filled in; no name, domain or identity holds them
_TIMES_GAP = b"\0"
_BODY_HASH_GAP = b"\1"
_BODY_HASH_OCTETS = 44  # of a SHA-256 digest in base64
_ALGORITHMS = {"rsa": Algorithm.RSA_SHA256, "ed25519": Algorithm.ED25519_SHA256}


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
        return _ALGORITHMS[key_type(self.private_key)]


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

    __slots__ = ("_bodies", "_covered", "_form", "_keys", "_names", "_options")

    def __init__(self, header: SignedHeader, keys: Sequence[SigningKey], options: SigningOptions) -> None:
        self._keys = keys
        self._options = options
        self._names, places = _choose_fields(header, options) if keys else ((), [])
        self._covered = hashlib.sha256(header.canonical(places, options.header))
        self._form = BodyForm(options.body)
        self._bodies = BodyHashes((self._form,) if keys else ())

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
        keys = [key for key in self._keys if key not in leave_out]
        if not keys:
            return ()
        times = _format_times(int(now.timestamp()), self._options.valid_for)
        body_hash = base64.b64encode(self._bodies.of(self._form).digest)
        return tuple([self._sign(key, times, body_hash) for key in keys])

    def _sign(self, key: SigningKey, times: bytes, body_hash: bytes) -> HeaderField:
        options = self._options
        place = (key.algorithm, key.domain, key.selector, key.identity)
        frame = _frame(*place, options.header, options.body, self._names, len(times))
        tags = frame.before_times + times + frame.before_body_hash + body_hash + frame.end
        hashing = self._covered.copy()
        hashing.update(unsigned_form(HeaderField(FIELD_NAME, tags), options.header))
        signature = base64.b64encode(sign_digest(key.private_key, hashing.digest()))
        return HeaderField(FIELD_NAME, tags + _fold_base64(signature, frame.column))


def start_signing(
    fields: Sequence[HeaderField], keys: Sequence[SigningKey], options: SigningOptions | None = None
) -> Signing:
    """Sign a message whose header, `fields` top down, is complete, with each of the keys.

    A message without exactly one From field has no author to sign for: it gets no signature.
    """
    return signing_of(SignedHeader(fields), keys, options)


def signing_of(header: SignedHeader, keys: Sequence[SigningKey], options: SigningOptions | None) -> Signing:
    """As `start_signing`."""
    usable = keys if header.count(FROM) == 1 else ()
    return Signing(header, usable, options or SigningOptions())


def _choose_fields(header: SignedHeader, options: SigningOptions) -> tuple[tuple[bytes, ...], list[int]]:
    """h=: each name once a field, and once more where it is oversigned; From first. And these fields."""
    names: list[bytes] = []
    chosen: list[int] = []
    find = header.places.get
    for name, is_oversigned in _signable(options):
        once_more = is_oversigned
        places = find(name)
        if places is not None:
            signed = places[: -MAX_FIELDS_A_NAME - 1 : -1]  # bottom up, as verifiers take them (5.4.2)
            names += [name] * len(signed)
            chosen += signed
            once_more = once_more and len(signed) == len(places)  # else it would mean a field not signed
        if once_more:
            names.append(name)
    return tuple(names), chosen


@lru_cache(maxsize=256)  # a configuration has a handful
def _signable(options: SigningOptions) -> tuple[tuple[bytes, bool], ...]:
    """The names that may stand in h=, in order, and which of them are oversigned."""
    oversigned = {FROM, *options.oversign}
    names = dict.fromkeys((FROM, *options.names, *sorted(oversigned)))
    return tuple((name, name in oversigned) for name in names if name not in NEVER_SIGNED)


class _Frame(msgspec.Struct, frozen=True, gc=False):
    """A signature's value around its times and bh=, folded, and the column after its last octets, ` b=`."""

    before_times: bytes
    before_body_hash: bytes
    end: bytes
    column: int


@lru_cache(maxsize=REMEMBERED_FRAMES)
def _frame(
    algorithm: Algorithm,
    domain: Domain,
    selector: Domain,
    identity: str,
    header: Canonicalization,
    body: Canonicalization,
    names: tuple[bytes, ...],
    times_octets: int,
) -> _Frame:
    """All that two messages with the same kinds of fields have in common."""
    pieces = [
        b" v=1;",
        f" a={algorithm.value};".encode("ascii"),
        f" c={header.value}/{body.value};".encode("ascii"),
        f" d={domain};".encode("ascii"),
        *_identity_pieces(identity),
        f" s={selector};".encode("ascii"),
        b" " + _TIMES_GAP * times_octets,
        b" h=" + names[0] + b":",
        *[name + b":" for name in names[1:-1]],
        names[-1] + b";",
        b" bh=" + _BODY_HASH_GAP * _BODY_HASH_OCTETS + b";",
        b" b=",
    ]
    folded, column = fold(pieces, len(FIELD_NAME) + 1)
    before_times, rest = folded.split(_TIMES_GAP * times_octets)
    before_body_hash, end = rest.split(_BODY_HASH_GAP * _BODY_HASH_OCTETS)
    return _Frame(before_times, before_body_hash, end, column)


def _format_times(signed_at: int, valid_for: timedelta | None) -> bytes:
    """t=, and x= where signatures expire."""
    if valid_for is None:
        return b"t=%d;" % signed_at
    return b"t=%d; x=%d;" % (signed_at, signed_at + int(valid_for.total_seconds()))


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
            piece = _FOLD + piece.lstrip(b" ")  # noqa: PLW2901 -- the piece as it stands on its line
            column = -len(CRLF)
        folded.append(piece)
        column += len(piece)
    return b"".join(folded), column


def _fold_base64(octets: bytes, column: int) -> bytes:
    """On lines of their own, but for the first piece where it has room behind `column`."""
    pieces = [octets[start : start + _BASE64_COLUMNS] for start in range(0, len(octets), _BASE64_COLUMNS)]
    start = b"" if column + len(pieces[0]) <= MAX_COLUMNS else _FOLD
    return start + _FOLD.join(pieces)
