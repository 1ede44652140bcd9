"""Our own mail through a whole conversation: who signs it, what the record says, and keys that change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailreeve_milter.answers import Outcome
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.dkim.sign import SigningKey
from mailreeve_milter.new_keys import NewKey, Selectors, new_keys
from mailreeve_milter.replay import Occasion, run_message
from mailreeve_milter.signing_table import SigningKeys, SigningRule
from mailreeve_policyd.address_pattern import parse_address_pattern
from mailreeve_policyd.smtp import parse_domain
from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import DnsServer
from tests.lab.work import work_folder
from tests.milterd.miltertalk import MilterTalk
from tests.milterd.setups import read_zone, write_setup
from tests.milterd.talking import OURS, OUTSIDE, ZONE, make_talk
from tests.milterd.test_dkim_sign import ED25519, RSA

BODY = b"The body.\r\n"
MESSAGE = b"From: bob@example.org\r\nSubject: hello\r\n\r\n" + BODY
BOUNCE = b"From: MAILER-DAEMON@example.org (Mail Delivery System)\r\nSubject: sorry\r\n\r\n" + BODY


class Signer:
    """A conversation with these keys."""

    def __init__(self, folder: Path, *keys: SigningKey, rules: tuple[SigningRule, ...] = ()) -> None:
        talk = make_talk(folder)
        examiner = replace(talk.surroundings.examiner, keys=SigningKeys(keys, rules=rules))
        self._conversation = Conversation(replace(talk.surroundings, examiner=examiner))
        self.records = talk.records

    def send(self, occasion: Occasion, message: bytes) -> bytes:
        """The message as it goes on, with what was inserted."""
        outcome = run_message(self._conversation, occasion, message).outcome
        assert outcome is not None
        return b"".join(field.raw for field in inserted(outcome)) + message

    @property
    def signed_with(self) -> list[tuple[str, str, str]]:
        """The record's signatures: domain, selector, algorithm."""
        told: list[Mapping[str, Any]] = self.records[-1].get("signatures", [])
        return [(one["domain"], one["selector"], one["algorithm"]) for one in told]


def inserted(outcome: Outcome) -> list[Any]:
    """The fields on top, from the top down."""
    return [insertion.field for insertion in reversed(outcome.insertions)]


def test_all_keys_of_a_domain_sign_in_one_pass(tmp_path: Path) -> None:
    """RSA and Ed25519 side by side, in the order of the configuration; the record names both."""
    signer = Signer(tmp_path, RSA, ED25519)
    sent = signer.send(OURS, MESSAGE)

    assert sent.index(b"s=r1;") < sent.index(b"s=e1;")
    assert signer.signed_with == [
        ("example.org", "r1", "rsa-sha256"),
        ("example.org", "e1", "ed25519-sha256"),
    ]


@pytest.mark.parametrize("sender", ["", "<>", "someone@elsewhere.example"])
def test_a_bounce_is_signed_by_its_from(tmp_path: Path, sender: str) -> None:
    """The envelope sender does not matter: a null one, as bounces have, is signed like any other."""
    signer = Signer(tmp_path, ED25519)

    signer.send(replace(OURS, address=None, login=None, sender=sender), BOUNCE)

    assert [selector for _, selector, _ in signer.signed_with] == ["e1"]


def test_a_message_that_comes_back_is_signed_once(tmp_path: Path) -> None:
    """A content filter gives it back: the second time there is nothing to add, and the record says so."""
    signer = Signer(tmp_path, RSA, ED25519)
    sent = signer.send(OURS, MESSAGE)

    assert signer.send(OURS, sent) == sent
    assert signer.signed_with == []
    assert signer.send(OURS, sent + b"added\r\n").count(b"DKIM-Signature:") == 4
    assert len(signer.signed_with) == 2


def test_a_parent_domain_signs_where_a_rule_says_so(tmp_path: Path) -> None:
    """d= is the parent, which is aligned with the author's domain under relaxed alignment (RFC 9989)."""
    rule = SigningRule((parse_address_pattern("*@*.example.org"),), domains=(parse_domain("example.org"),))
    signer = Signer(tmp_path, ED25519, rules=(rule,))

    signer.send(OURS, MESSAGE.replace(b"bob@", b"bob@lists."))

    assert signer.signed_with == [("example.org", "e1", "ed25519-sha256")]


def test_every_domain_that_signed_is_known_to_the_rules(tmp_path: Path) -> None:
    """Of a stranger's message with several signatures, `dkim_domains` has each that passes, once."""
    theirs = [
        replace(RSA, domain=parse_domain("example.net")),
        replace(ED25519, domain=parse_domain("example.net")),
    ]
    both = [*theirs, replace(ED25519, domain=parse_domain("example.com"))]
    rule = SigningRule(domains=(parse_domain("example.net"), parse_domain("example.com")))
    sent = Signer(tmp_path, *both, rules=(rule,)).send(OURS, MESSAGE)
    zone = ZONE + "".join(
        f'{key.selector}._domainkey.{key.domain}. TXT "{format_key_record(key.private_key)}"\n'
        for key in both
    )
    talk = make_talk(tmp_path, zone=zone)

    outcome = run_message(talk.conversation, OUTSIDE, sent).outcome
    transaction = outcome.transaction if outcome else None
    evidence = transaction.evidence if transaction else None

    assert evidence is not None
    assert evidence.dkim_domains == ("example.net", "example.com")


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    with work_folder() as folder:
        yield folder


def selectors_of(address: str) -> list[str]:
    """The selectors that sign a message of example.org just now."""
    with MilterTalk(address) as talk:
        talk.macros["M"] = {"{auth_authen}": "bob", "{auth_type}": "PLAIN"}
        talk.connect("laptop", "192.0.2.200")
        talk.helo("laptop")
        talk.mail("<bob@example.org>")
        talk.rcpt("<ann@example.net>")
        talk.data()
        packets = [str(packet) for packet in talk.message([(b"From", b" bob@example.org")], BODY)]
        fields = [packet for packet in packets if "DKIM-Signature" in packet]
        return [field.partition(" s=")[2].partition(";")[0] for field in fields]


def make_configuration(config: Path, keys: tuple[NewKey, ...]) -> None:
    """Put these keys in the place of those that are there."""
    text = config.read_text().partition("[[signing.keys]]")[0]
    config.write_text(text + "".join(key.settings for key in keys))


@pytest.mark.system
@pytest.mark.parametrize("engine", ENGINES)
def test_keys_are_changed_without_a_restart(work: Path, engine: Engine) -> None:
    """SIGHUP reads the keys anew; with a key that cannot be read the old ones stay in force."""
    with DnsServer(read_zone()) as dns:
        config = write_setup("postfix", work, dns, engine)
        with Daemon("milter", config, work) as daemon:
            address = f"unix:{work}/milter.sock"
            assert selectors_of(address) == ["e2026"]

            names = Selectors(parse_domain("r2027"), parse_domain("e2027"))
            rsa, ed25519 = new_keys(parse_domain("example.org"), work / "new", None, names)
            make_configuration(config, (rsa, ed25519))
            daemon.reload()
            assert sorted(selectors_of(address)) == ["e2027", "r2027"]

            rsa.path.chmod(0o644)
            daemon.hup()
            daemon.wait_for_text("others can read or change")
            assert sorted(selectors_of(address)) == ["e2027", "r2027"]


@pytest.mark.system
def test_a_table_of_opendkim_is_read_again(work: Path) -> None:
    """A line that was added to its tables, and its key, are in force after SIGHUP."""
    with DnsServer(read_zone()) as dns:
        config = write_setup("postfix", work, dns)
        tables = f'key_table = "{work}/KeyTable"\nsigning_table = "refile:{work}/SigningTable"\n'
        text = config.read_text().partition("[[signing.keys]]")[0]
        config.write_text(f"{text}[signing.opendkim]\n{tables}")
        (work / "KeyTable").write_text(f"old example.org:old:{work}/e2026.pem\n")
        (work / "SigningTable").write_text("*@example.org old\n")
        with Daemon("milter", config, work) as daemon:
            assert selectors_of(f"unix:{work}/milter.sock") == ["old"]
            (work / "KeyTable").write_text(f"new example.org:new:{work}/e2026.pem\n")
            (work / "SigningTable").write_text("*@example.org new\n")
            daemon.reload()
            assert selectors_of(f"unix:{work}/milter.sock") == ["new"]
