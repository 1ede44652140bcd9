"""The mark of our own notices: what is believed, and everything that is not."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notices_mark import (
    LIFE_SECONDS,
    PREFIX,
    TOKEN_CHARACTERS,
    NoticeMarks,
    SecretFile,
    make_mark,
    may_be_marked,
)
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.smtp import Stage, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Relayed, Session, Transaction
from tests.policyd.limit_stores import HandClock

ROOT = "root@example.org"
SECRET = bytes(range(32))
OURS = NetworkSet([ip_network("198.51.100.0/24")])


def marks(
    clock: HandClock,
    store: MemoryStore | None = None,
    secret: bytes | None = SECRET,
    door: Door = Door.POLICY,
) -> NoticeMarks:
    return NoticeMarks(lambda: secret, store or MemoryStore(clock), door, OURS, clock)


def helo(token: str) -> str:
    return f"{PREFIX}{token}.mx.example.org"


def marked(clock: HandClock, recipient: str = ROOT, instance: str | None = "1") -> Transaction:
    """A notice at RCPT, as Postfix asks about it."""
    return Transaction(
        Stage.RCPT,
        Session(
            client_address=ip_address("127.0.0.1"), helo_name=helo(make_mark(SECRET, recipient, clock()))
        ),
        Envelope(None),
        recipient=parse_mailbox(recipient),
        recipient_count=0,
        instance=instance,
    )


def test_our_notice_is_known_at_each_stage_of_its_message() -> None:
    """It is one message, asked about again and again; the recipient's case is no matter."""
    clock = HandClock()
    ours, notice = marks(clock), marked(clock)

    assert may_be_marked(notice.session)
    assert ours.is_ours(notice)
    assert ours.is_ours(notice)
    assert ours.is_ours(replace(notice, recipient=parse_mailbox("ROOT@Example.ORG")))
    assert ours.is_ours(replace(notice, stage=Stage.END_OF_MESSAGE, recipient_count=1))


def test_a_mark_is_for_one_message() -> None:
    """Whoever reads it in a Received field, on this machine, comes too late: at both doors, on all hosts."""
    clock = HandClock()
    store = MemoryStore(clock)
    notice = marked(clock)
    assert marks(clock, store).is_ours(notice)
    assert marks(clock, store, door=Door.MILTER).is_ours(replace(notice, instance="m1"))

    again = replace(notice, instance="2")

    assert not marks(clock, store).is_ours(again)
    assert not marks(clock, store).is_ours(again)
    assert not marks(clock, store, door=Door.MILTER).is_ours(replace(notice, instance="m2"))
    assert marks(clock, store).is_ours(notice)


def test_a_mark_has_its_time() -> None:
    """Not after it, nor from a clock that is far ahead."""
    clock = HandClock()
    early = replace(marked(clock), instance="9")
    assert marks(clock).is_ours(early)

    clock.advance(timedelta(seconds=LIFE_SECONDS - 1))
    assert marks(clock).is_ours(early)
    clock.advance(timedelta(seconds=2))
    assert not marks(clock).is_ours(early)
    clock.advance(-timedelta(days=1))
    assert not marks(clock).is_ours(early)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipient": parse_mailbox("ann@example.net")},
        {"recipient": None},
        {"recipient_count": 2, "stage": Stage.DATA},
        {"envelope": Envelope(parse_mailbox("bob@example.org"))},
        {"envelope": None},
        {"instance": None},
        {"stage": Stage.MAIL},
        {"stage": Stage.HELO},
    ],
    ids=str,
)
def test_a_mark_is_for_its_recipient_alone_and_for_no_sender(changed: dict[str, object]) -> None:
    """Another recipient, a second one, a sender, no name of the message: counted like all mail."""
    clock = HandClock()

    assert not marks(clock).is_ours(replace(marked(clock), **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"client_address": ip_address("203.0.113.9")},
        {"client_address": None},
        {"client_address": None, "is_local_submission": True},
        {"sasl_username": "bob"},
        {"relayed": Relayed(ip_address("127.0.0.1"))},
        {"helo_name": None},
    ],
    ids=str,
)
def test_a_mark_is_believed_of_our_own_machines_alone(changed: dict[str, object]) -> None:
    """A stranger, a login, a relay: counted like all mail, whatever they say in EHLO."""
    clock = HandClock()
    notice = marked(clock)

    assert not marks(clock).is_ours(replace(notice, session=replace(notice.session, **changed)))


def test_a_mark_is_believed_in_trusted_networks() -> None:
    """Notices may go to a mail server beside this one."""
    clock = HandClock()
    notice = marked(clock)
    near = replace(notice.session, client_address=ip_address("198.51.100.7"))

    assert marks(clock).is_ours(replace(notice, session=near))


def test_without_our_secret_there_is_no_mark() -> None:
    """By another secret, or while this machine has none."""
    clock = HandClock()

    assert not marks(clock, secret=bytes(32)).is_ours(marked(clock))
    assert not marks(clock, secret=None).is_ours(marked(clock))


@given(st.integers(0, TOKEN_CHARACTERS - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_no_character_of_a_mark_may_change(place: int, character: str) -> None:
    """All of its bits count, but for those of the last character that base32 does not use."""
    clock = HandClock()
    token = make_mark(SECRET, ROOT, clock())
    if token[place] == character or place == TOKEN_CHARACTERS - 1:
        return
    forged = token[:place] + character + token[place + 1 :]
    notice = marked(clock)
    session = replace(notice.session, helo_name=helo(forged))

    assert not marks(clock).is_ours(replace(notice, session=session))


@given(st.text(max_size=80))
def test_any_other_name_is_none(name: str) -> None:
    """Nothing is raised, whatever a client says."""
    clock = HandClock()
    notice = marked(clock)
    for said in (name, PREFIX + name, helo(name)):
        session = replace(notice.session, helo_name=said)
        assert not marks(clock).is_ours(replace(notice, session=session))


def test_a_store_that_is_away_believes_no_mark() -> None:
    """Rather a notice counted than one mark used for many messages."""

    class Away(MemoryStore):
        def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
            raise StoreError("away")

    clock = HandClock()

    assert not marks(clock, Away(clock)).is_ours(marked(clock))


def test_two_marks_of_one_recipient_differ() -> None:
    """Each message has its own."""
    assert make_mark(SECRET, ROOT, 1.7e9) != make_mark(SECRET, ROOT, 1.7e9)


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, 32 octets, the same for whoever asks next; nothing else is left in the folder."""
    path = tmp_path / "notice-secret"
    assert SecretFile(path).read() is None

    made = SecretFile(path).make()

    assert len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SecretFile(path).make() == SecretFile(path).read() == made
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620])
def test_a_secret_that_others_could_read_is_none(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon does not start with it, and believes no mark by it."""
    path = tmp_path / "notice-secret"
    SecretFile(path).make()
    path.chmod(mode)

    for look in (SecretFile(path).make, SecretFile(path).check):
        with pytest.raises(ConfigError, match="others could use"):
            look()
    assert SecretFile(path).read() is None
    assert "cannot be used" in caplog.text


def test_a_secret_of_another_length_is_none(tmp_path: Path) -> None:
    """An empty file, as a full disk leaves it, must not become a secret that everybody knows."""
    path = tmp_path / "notice-secret"
    path.touch(0o600)

    with pytest.raises(ConfigError, match="no secret of 32 octets"):
        SecretFile(path).make()


def test_a_secret_behind_a_link_is_none(tmp_path: Path) -> None:
    """Nobody may point us at a file whose content they know."""
    (tmp_path / "known").write_bytes(bytes(32))
    (tmp_path / "known").chmod(0o600)
    (tmp_path / "notice-secret").symlink_to(tmp_path / "known")

    with pytest.raises(ConfigError, match="cannot be made or read"):
        SecretFile(tmp_path / "notice-secret").make()
