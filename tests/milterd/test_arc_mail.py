"""Chains in the milter: what rules, the field and the record say of them, and what is sealed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mailreeve_milter.answers import Outcome
from mailreeve_milter.arc_mail import ArcOptions, load_arc
from mailreeve_milter.dkim.crypto import format_private_key, generate_ed25519_key
from mailreeve_milter.message import HeaderField
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.replay import Occasion, run_message
from mailreeve_policyd.config import Configuration, parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import Domain
from mailreeve_policyd.verdict import Action
from tests.lab import arc_perl
from tests.lab.dns import DnsServer
from tests.milterd.arc_hops import (
    DOMAINS,
    RSA_FILE,
    ZONE_TEXT,
    Message,
    dkimpy_hop,
    key_of,
    our_hop,
    send,
    validate,
    verified_by_dkimpy,
)
from tests.milterd.talking import OURS, OUTSIDE, ZONE, Talk, make_talk

ALL_ZONES = ZONE + ZONE_TEXT
NOBODY = ArcOptions()
TRUSTING = ArcOptions(frozenset({Domain("two.example.net")}))
SEALING = ArcOptions(key=key_of("three.example.net"))
CHAIN = send(our_hop, dkimpy_hop)
RULES = """
at end-of-message {
    unknown: hold "arc" if arc is temperror
    believed: accept if arc is pass
    by-name: accept if arc_sealer is "two.example.net"
    stranger: reject "5.7.1 sealed by nobody we know" if arc is untrusted
}
"""


def play(talk: Talk, message: Message = CHAIN, occasion: Occasion = OUTSIDE) -> Outcome:
    outcome = run_message(talk.conversation, occasion, message.octets).outcome
    assert outcome is not None
    return outcome


def decided(talk: Talk) -> tuple[str, str | None]:
    verdict = talk.records[-1]["verdict"]
    return verdict["action"], verdict.get("rule")


def inserted(outcome: Outcome) -> list[HeaderField]:
    return [one.field for one in reversed(outcome.insertions)]


def delivered(outcome: Outcome, message: Message = CHAIN) -> Message:
    """The message as it leaves, removals of forged results included."""
    numbers = {removal.occurrence for removal in outcome.removals}
    kept: list[HeaderField] = []
    seen = 0
    for field in message.fields:
        seen += field.name == b"Authentication-Results"
        if field.name != b"Authentication-Results" or seen not in numbers:
            kept.append(field)
    return Message([*inserted(outcome), *kept], message.body)


def test_without_the_option_nothing_is_asked(tmp_path: Path) -> None:
    """With verify = false: no result, no fact, no question, no field."""
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES)

    outcome = play(talk)

    assert decided(talk)[0] == "continue"
    assert "arc" not in [result["method"] for result in talk.records[-1]["results"]]
    assert not {"arc", "arc_sealer"} & talk.records[-1].keys()
    assert [field.name for field in inserted(outcome)] == [b"Authentication-Results"]


def test_a_strangers_valid_chain_is_not_believed(tmp_path: Path) -> None:
    """Anybody can make a chain: without trusted sealers none is `pass` for a rule, no sealer has a name."""
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES, arc=NOBODY)

    play(talk)

    assert decided(talk) == ("reject", "stranger")
    assert talk.records[-1]["arc"] == "untrusted"
    assert talk.records[-1]["arc_sealer"] == "two.example.net"


def test_a_trusted_sealer_is_believed(tmp_path: Path) -> None:
    """Its own chain, and one that it went on with."""
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES, arc=TRUSTING)

    play(talk)

    assert decided(talk) == ("accept", "believed")
    assert (talk.records[-1]["arc"], talk.records[-1]["arc_sealer"]) == ("pass", "two.example.net")


def test_the_last_sealer_counts(tmp_path: Path) -> None:
    """A trusted one further down vouches for nothing that a stranger did afterwards."""
    believing_one = ArcOptions(frozenset({Domain(DOMAINS[0])}))
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES, arc=believing_one)

    play(talk)

    assert decided(talk) == ("reject", "stranger")


def test_the_sealers_name_is_a_fact(tmp_path: Path) -> None:
    """arc_sealer is the d= of who sealed last, once it is trusted."""
    rules = 'at end-of-message { by-name: accept if arc_sealer is "two.example.net" }'
    talk = make_talk(tmp_path, rules, zone=ALL_ZONES, arc=TRUSTING)
    play(talk)
    assert decided(talk) == ("accept", "by-name")

    talk = make_talk(tmp_path, rules, zone=ALL_ZONES, arc=NOBODY)
    play(talk)
    assert decided(talk)[0] == "continue"


def test_a_broken_chain_of_a_trusted_sealer_is_worth_nothing(tmp_path: Path) -> None:
    """Its seals under another body do not count."""
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES, arc=TRUSTING)

    play(talk, Message(CHAIN.fields, b"buy now\r\n"))

    assert decided(talk)[0] == "continue"
    assert talk.records[-1]["arc"] == "fail"
    assert "arc_sealer" not in talk.records[-1]


def test_the_field_says_what_was_found(tmp_path: Path) -> None:
    """Authentication-Results has the chain's result whomever we trust, last of all."""
    (field,) = inserted(play(make_talk(tmp_path, zone=ALL_ZONES, arc=NOBODY)))
    assert b"arc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.1" in field.unfolded.replace(b"\t", b" ")

    (field,) = inserted(play(make_talk(tmp_path, zone=ALL_ZONES, arc=NOBODY), Message(CHAIN.fields[8:])))
    assert field.value.endswith(b"arc=none")


def test_dns_that_is_away_makes_a_rule_unknown(tmp_path: Path) -> None:
    """`arc is not pass` cannot be said of a chain whose key cannot be looked up now: the mail is deferred."""
    rules = 'at end-of-message { forged: reject "5.7.1 forged" if arc is not pass }'
    failing = ["r1._domainkey.one.example.net"]
    talk = make_talk(tmp_path, rules, zone=ALL_ZONES, failing=failing, arc=TRUSTING)

    outcome = play(talk)

    assert outcome.verdict is not None
    assert outcome.verdict.action is Action.DEFER
    assert talk.records[-1]["arc"] == "temperror"


def test_a_header_too_large_is_temperror(tmp_path: Path) -> None:
    """What was not read is not known."""
    talk = make_talk(tmp_path, RULES, zone=ALL_ZONES, bounds=MessageBounds(header_octets=300), arc=TRUSTING)

    play(talk)

    assert decided(talk) == ("hold", "unknown")


def test_outside_mail_that_goes_on_is_sealed(tmp_path: Path) -> None:
    """Set on top of our results; dkimpy finds the longer chain valid, forged results being removed."""
    forged = HeaderField(b"Authentication-Results", b" mx.example.org; spf=pass")
    message = Message([*CHAIN.fields[:7], forged, *CHAIN.fields[7:]])
    talk = make_talk(tmp_path, zone=ALL_ZONES, arc=SEALING)

    outcome = play(talk, message)

    names = [field.name for field in inserted(outcome)]
    assert names == [
        b"ARC-Seal",
        b"ARC-Message-Signature",
        b"ARC-Authentication-Results",
        b"Authentication-Results",
    ]
    assert [removal.occurrence for removal in outcome.removals]
    leaving = delivered(outcome, message)
    assert verified_by_dkimpy(leaving) == "pass"
    assert validate(leaving)[0].sealers == DOMAINS[::-1]
    assert talk.records[-1]["added"][:2] == ["ARC-Seal", "ARC-Message-Signature"]


@pytest.mark.system
def test_mail_dkim_verifies_what_leaves(tmp_path: Path) -> None:
    """A rule's own field among the additions changes nothing."""
    rules = 'at end-of-message { tag: add-header "X-Seen: {sender}" }'
    outcome = play(make_talk(tmp_path, rules, zone=ALL_ZONES, arc=SEALING))

    with DnsServer(ZONE_TEXT) as nameserver:
        assert arc_perl.verify_chain(delivered(outcome).octets, nameserver).startswith("pass")


def test_a_failed_chain_leaves_marked(tmp_path: Path) -> None:
    """Our seal says cv=fail, for those who come after us."""
    broken = Message(CHAIN.fields, b"other\r\n")
    outcome = play(make_talk(tmp_path, zone=ALL_ZONES, arc=SEALING), broken)

    assert b"cv=fail" in inserted(outcome)[0].value
    assert validate(delivered(outcome, broken))[0].chain.is_ended


@pytest.mark.parametrize(
    "rules", ['at end-of-message { no: reject "5.7.1 no" }', "at end-of-message { no: discard }"]
)
def test_what_does_not_go_on_is_not_sealed(rules: str, tmp_path: Path) -> None:
    """A refused message gets no set."""
    assert inserted(play(make_talk(tmp_path, rules, zone=ALL_ZONES, arc=SEALING))) == []


def test_our_own_mail_is_not_sealed(tmp_path: Path) -> None:
    """It is signed: a chain begins where somebody else's mail is passed on."""
    outcome = play(make_talk(tmp_path, zone=ALL_ZONES, arc=SEALING), Message(CHAIN.fields[8:]), OURS)

    assert not [field for field in inserted(outcome) if field.name.startswith(b"ARC-")]


def configuration(text: str, folder: Path) -> Configuration:
    return parse_configuration(text.encode(), folder / "mailreeve.toml")


def test_the_settings_are_read(tmp_path: Path) -> None:
    """Names in A-labels and lower case, the key from its file."""
    (tmp_path / "a.pem").write_bytes(RSA_FILE.read_bytes())
    (tmp_path / "a.pem").chmod(0o600)
    lines = ["[arc]", "verify = true", 'trusted_sealers = ["Lists.Example.NET"]']
    seal = ["[arc.seal]", 'domain = "example.org"', 'selector = "a1"', 'file = "a.pem"']

    options = load_arc(configuration("\n".join([*lines, *seal]), tmp_path))

    assert options is not None
    assert options.trusted_sealers == {"lists.example.net"}
    assert options.key is not None
    assert (options.key.domain, options.key.selector) == ("example.org", "a1")
    assert load_arc(configuration("\n".join(lines), tmp_path)) == ArcOptions(options.trusted_sealers)
    assert load_arc(configuration("", tmp_path)) is None


def with_key(folder: Path, octets: bytes, mode: int) -> Configuration:
    (folder / "a.pem").write_bytes(octets)
    (folder / "a.pem").chmod(mode)
    seal: Sequence[str] = ['domain = "example.org"', 'selector = "a1"', 'file = "a.pem"']
    return configuration("\n".join(["[arc]", "verify = true", "[arc.seal]", *seal]), folder)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As every signing key."""
    with pytest.raises(ConfigError, match=r"arc\.seal\.file: others can read"):
        load_arc(with_key(tmp_path, RSA_FILE.read_bytes(), 0o644))


def test_an_ed25519_key_is_refused(tmp_path: Path) -> None:
    """A chain has one signature a hop, and most verifiers of ARC know RSA alone."""
    with pytest.raises(ConfigError, match="holds no RSA key"):
        load_arc(with_key(tmp_path, format_private_key(generate_ed25519_key()), 0o600))
