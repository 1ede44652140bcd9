"""The mark by which both daemons know our own notices, so that no rule counts, refuses or tells of them.

It stands in the EHLO name (RFC 5321 section 4.1.1.1), which a policy server and a milter both see, where a
header field would only reach the milter:

    mailreeve-TOKEN.HOST   with TOKEN = base32(expires (4) || nonce (8) || MAC (16))

The MAC is HMAC-SHA256 over expires, nonce and the one recipient, by a secret of this machine. So that nobody
else sends uncounted mail by it, a mark is believed only

- from a client on loopback or in `[trust] networks` that logged in by no name and is no relay,
- with the null sender, for exactly the recipient that it names, alone,
- until it expires, and for one message: the limit store counts it, in the step that counts messages.

Whoever reads a mark in a Received field therefore has nothing: it was used by then.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits import (
    Charge,
    Limit,
    LimitStore,
    OnUnavailable,
    Unit,
    limit_key,
    member_hash,
)
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Session, Transaction

PREFIX = "mailreeve-"
"""With the token's 45 characters a label of 55: DNS allows 63."""

SECRET_FILE = "notice-secret"  # noqa: S105 -- a file's name
"""In the state directory."""

SECRET_OCTETS = 32
NONCE_OCTETS = 8
MAC_OCTETS = 16
EXPIRES_OCTETS = 4
TOKEN_OCTETS = EXPIRES_OCTETS + NONCE_OCTETS + MAC_OCTETS
TOKEN_CHARACTERS = -(-TOKEN_OCTETS * 8 // 5)

LIFE_SECONDS = 300
"""From EHLO to the end of one small message. Two daemons on two machines must have clocks as close."""

USES = Limit(1, Unit.MESSAGES, timedelta(seconds=2 * LIFE_SECONDS))
"""Of one mark at one door: a message, asked about as often as the MTA likes."""

_FROM_RECIPIENT_ON = (Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE)

log = logging.getLogger(__name__)


def make_mark(secret: bytes, recipient: str, now: float) -> str:
    """A new token for one message to one recipient: lower-case base32, TOKEN_CHARACTERS long."""
    expires = (int(now) + LIFE_SECONDS).to_bytes(EXPIRES_OCTETS, "big")
    nonce = secrets.token_bytes(NONCE_OCTETS)
    octets = expires + nonce + _mac(secret, expires + nonce, recipient)
    return base64.b32encode(octets).decode("ascii").rstrip("=").lower()


def may_be_marked(session: Session) -> bool:
    """Does the client's EHLO name look like one of ours? For the way of every request."""
    name = session.helo_name
    return name is not None and name.startswith(PREFIX)


def _mac(secret: bytes, begin: bytes, recipient: str) -> bytes:
    message = begin + recipient.lower().encode("utf-8", "surrogateescape")
    return hmac.digest(secret, message, "sha256")[:MAC_OCTETS]


class NoticeMarks:
    """Says which mail is a notice of ours. Safe from any thread.

    `secret` gives the machine's secret, None while there is none; `clock` seconds since the epoch.
    """

    def __init__(
        self,
        secret: Callable[[], bytes | None],
        store: LimitStore,
        door: Door,
        own_networks: NetworkSet,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._store = store
        self._door = door
        self._own_networks = own_networks
        self._clock = clock

    def is_ours(self, transaction: Transaction) -> bool:
        """Is this message one of our notices, and this its one message? A store that is away says no."""
        session, recipient = transaction.session, transaction.recipient
        if not may_be_marked(session) or not self._may_be_ours(transaction):
            return False
        nonce = self._nonce(session.helo_name or "", str(recipient))
        return nonce is not None and self._is_first(nonce, transaction.instance or "")

    def _may_be_ours(self, transaction: Transaction) -> bool:
        session, address = transaction.session, transaction.session.client_address
        return (
            address is not None
            and (address.is_loopback or address in self._own_networks)
            and session.relayed is None
            and session.sasl_username is None
            and transaction.stage in _FROM_RECIPIENT_ON
            and transaction.envelope is not None
            and transaction.envelope.reverse_path is None
            and transaction.recipient is not None
            and transaction.recipient_count in (None, 0, 1)  # Postfix says 0 before DATA
            and transaction.instance is not None
        )

    def _nonce(self, helo_name: str, recipient: str) -> bytes | None:
        """That of a mark which is right and has not expired; None for any other name."""
        token = helo_name.partition(".")[0].removeprefix(PREFIX)
        secret = self._secret()
        if secret is None or len(token) != TOKEN_CHARACTERS:
            return None
        try:
            octets = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
        except (binascii.Error, ValueError):
            return None
        begin, mac = octets[:-MAC_OCTETS], octets[-MAC_OCTETS:]
        if not hmac.compare_digest(mac, _mac(secret, begin, recipient)):
            return None
        left = int.from_bytes(begin[:EXPIRES_OCTETS], "big") - self._clock()
        return begin[EXPIRES_OCTETS:] if 0 <= left <= LIFE_SECONDS else None

    def _is_first(self, nonce: bytes, instance: str) -> bool:
        key = limit_key(f"\0notice mark\0{self._door.value}", USES, (nonce.hex(),))
        charge = Charge(
            "(notice)", key, USES, 1, mark=member_hash(instance), on_unavailable=OnUnavailable.LOCAL
        )
        try:
            (usage,) = self._store.charge((charge,))
        except StoreError:
            return False
        return not usage.exceeded


class SecretFile:
    """The machine's secret, shared by the daemons through a file that others cannot read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: bytes | None = None

    def read(self) -> bytes | None:
        """The secret; None while there is none. One that others can read is none, and the log says so."""
        if self._known is None:
            try:
                self._known = _read(self._path)
            except FileNotFoundError:
                return None
            except (OSError, ConfigError) as error:
                log.error("the secret that marks notices cannot be used: %s", error)  # noqa: TRY400 -- no bug
                return None
        return self._known

    def check(self) -> None:
        """Raises ConfigError where there is a file that is no secret, or that others can read."""
        try:
            _read(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError("", "state_dir", f"{self._path} cannot be read: {error.strerror}") from error

    def make(self) -> bytes:
        """The secret, made now if there is none.

        Raises:
            ConfigError: the file cannot be made or read, or others can read it.
        """
        try:
            with suppress(FileExistsError):
                _make(self._path)
            self._known = known = _read(self._path)
        except OSError as error:
            problem = f"{self._path} cannot be made or read: {error.strerror}"
            raise ConfigError("", "state_dir", problem, "the daemon's user must own the folder") from error
        return known


def _read(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & (stat.S_IRWXO | stat.S_IRWXG):
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            problem = f"others could use {path} (mode {mode}), and what they send would be counted by nobody"
            raise ConfigError("", "state_dir", problem, f"rm {path}; a new one is made at the next start")
        secret = stream.read(SECRET_OCTETS + 1)
    if len(secret) != SECRET_OCTETS:
        problem = f"{path} is no secret of {SECRET_OCTETS} octets"
        raise ConfigError("", "state_dir", problem, f"rm {path}; a new one is made at the next start")
    return secret


def _make(path: Path) -> None:
    """Whole or not at all, whoever else makes it now. Raises FileExistsError if it is there."""
    if path.exists():
        raise FileExistsError
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(SECRET_OCTETS))
        os.link(beside, path)  # unlike a rename, it replaces nothing
    finally:
        beside.unlink()
