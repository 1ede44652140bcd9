"""One SMTP session as a milter hears it: what is asked, decided, changed, recorded and left over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailreeve_milter.answers import CONTINUE, FAILED, Answer, Outcome
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.edits import RESULTS_FIELD
from mailreeve_milter.message import HeaderField
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.replay import run_message, split_message
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, RemoveHeader, Verdict
from tests.milterd.talking import ALL_STAGES, OURS, OUTSIDE, make_talk

MESSAGE = b"From: bob@example.net\r\nSubject: hello\r\n\r\nThe body.\r\n"
OUR_MESSAGE = b"From: bob@example.org\r\nSubject: hello\r\n\r\nThe body.\r\n"
FORGED = b"Authentication-Results: mx.example.org; dkim=pass\r\n"


def added(outcome: Outcome | None) -> list[bytes]:
    """The names of the fields that go on top, from the top down."""
    assert outcome is not None
    return [insertion.field.name for insertion in reversed(outcome.insertions)]


def field_text(outcome: Outcome | None) -> str:
    """The value of the uppermost field, on one line."""
    assert outcome is not None
    return " ".join(outcome.insertions[-1].field.value.decode().split())


def begin(conversation: Conversation, sender: str = "<bob@example.net>") -> None:
    """A stranger's session, up to DATA."""
    conversation.connect("mail.example.net", "192.0.2.1", 40000, {})
    conversation.helo("mail.example.net", {})
    conversation.mail(sender, (), {})
    conversation.rcpt("<alice@example.org>", {})
    conversation.data({})


def test_a_strangers_message_gets_one_field_of_results(tmp_path: Path) -> None:
    """SPF of both names, DKIM and DMARC, under our authserv-id, above everything else."""
    talk = make_talk(tmp_path)
    outcome = run_message(talk.conversation, OUTSIDE, MESSAGE).outcome

    assert added(outcome) == [b"Authentication-Results"]
    assert field_text(outcome).startswith("mx.example.org; spf=none ")
    assert all(
        part in field_text(outcome) for part in ("spf=pass", "smtp.mailfrom", "dkim=none", "dmarc=pass")
    )
    assert outcome is not None
    assert outcome.response == CONTINUE


def test_a_users_message_is_signed_and_not_judged(tmp_path: Path) -> None:
    """A login makes mail ours whatever its address; no results are added, the author is known to rules."""
    talk = make_talk(tmp_path, 'at end-of-message { x: add-header "X-From: {header_from}" if header_from }')
    outcome = run_message(talk.conversation, OURS, OUR_MESSAGE).outcome

    assert added(outcome) == [b"DKIM-Signature", b"X-From"]
    assert talk.records[-1]["signatures"] == [
        {"domain": "example.org", "selector": "e1", "algorithm": "ed25519-sha256"}
    ]
    assert "results" not in talk.records[-1]


@pytest.mark.parametrize(
    ("address", "login", "is_ours"),
    [
        ("192.0.2.1", None, False),
        ("192.0.2.1", "bob", True),
        ("198.51.100.99", None, True),
        ("::ffff:198.51.100.99", None, True),
        ("2001:db8::1", None, False),
        (None, None, True),
        ("unknown", None, False),
    ],
)
def test_whose_mail_it_is(tmp_path: Path, address: str | None, login: str | None, is_ours: bool) -> None:
    """Ours is: a login, an address of our networks, or none at all."""
    occasion = replace(OURS, address=address, login=login)
    outcome = run_message(make_talk(tmp_path).conversation, occasion, OUR_MESSAGE).outcome

    assert added(outcome) == ([b"DKIM-Signature"] if is_ours else [b"Authentication-Results"])


def test_each_rcpt_counts_however_often_it_names_one_mailbox(tmp_path: Path) -> None:
    """The MTA may deliver a copy for each of them."""
    rules = "at rcpt { few: limit 2 recipients/hour per sasl_username }\n"
    conversation = make_talk(tmp_path, rules, ALL_STAGES).conversation
    conversation.connect("laptop", "203.0.113.5", 40000, {})
    conversation.helo("laptop", {})
    conversation.mail("<bob@example.org>", (), {"{auth_authen}": "bob"})
    paths = ("<ann@example.net>", "<@relay.example:ann@example.net>", "<ann@example.net>")
    replies = [conversation.rcpt(path, {}).reply for path in paths]

    assert [reply is None for reply in replies] == [True, True, False]


@pytest.mark.parametrize("name", ["unknown", "[UNAVAILABLE]", "localhost.example.net", ""])
def test_a_client_of_whom_nothing_is_known_is_not_ours(tmp_path: Path, name: str) -> None:
    """Without an address only the name `localhost` means the sendmail command; all else could be anybody."""
    talk = make_talk(tmp_path)
    talk.conversation.connect(name, None, None, {})
    talk.conversation.helo("mail.example.net", {})
    talk.conversation.mail("<bob@example.org>", (), {})
    talk.conversation.rcpt("<alice@example.org>", {})
    talk.conversation.data({})
    talk.conversation.header(b"From", b" bob@example.org")
    outcome = talk.conversation.end_of_message({})

    assert added(outcome) == [b"Authentication-Results"]
    assert "spf=none" in field_text(outcome)


@pytest.mark.parametrize("occasion", [OUTSIDE, OURS], ids=["outside", "ours"])
def test_forged_results_are_removed_from_everybody(tmp_path: Path, occasion: object) -> None:
    """Highest first, so that none moves the next; those of others stay and count."""
    header = FORGED + b"authentication-RESULTS: other.example; none\r\n" + FORGED + FORGED
    assert occasion in (OUTSIDE, OURS)
    talk = make_talk(tmp_path)
    outcome = run_message(
        talk.conversation, OUTSIDE if occasion is OUTSIDE else OURS, header + MESSAGE
    ).outcome

    assert outcome is not None
    assert outcome.removals == tuple(RemoveHeader("Authentication-Results", number) for number in (4, 3, 1))
    assert talk.records[-1]["removed"] == ["Authentication-Results"] * 3


@pytest.mark.parametrize(("fields", "answer"), [(500, Answer.CONTINUE), (501, Answer.REJECT)])
def test_a_crowd_of_forged_results_is_refused(tmp_path: Path, fields: int, answer: Answer) -> None:
    """Each removal makes Postfix read the whole message again, so their number has a bound."""
    talk = make_talk(tmp_path)
    outcome = run_message(talk.conversation, OUTSIDE, FORGED * fields + MESSAGE).outcome

    assert outcome is not None
    assert outcome.response.answer is answer
    assert len(outcome.removals) == (fields if answer is Answer.CONTINUE else 0)
    assert talk.records[-1]["verdict"]["action"] == answer.value


def test_a_relays_results_are_kept(tmp_path: Path) -> None:
    """What an internal hop found is no forgery; but a login through it is not the hop."""
    relayed = replace(OUTSIDE, address="203.0.113.250")
    talk = make_talk(tmp_path, relays=["203.0.113.250/32"])
    kept = run_message(talk.conversation, relayed, FORGED + MESSAGE).outcome
    removed = run_message(talk.conversation, replace(relayed, login="bob"), FORGED + MESSAGE).outcome

    assert kept is not None
    assert removed is not None
    assert (len(kept.removals), len(removed.removals)) == (0, 1)


SPF_FIELD = b"Received-SPF: pass (no) client-ip=192.0.2.1; receiver=mx.example.org\r\n"


def test_received_spf_is_written_below_our_results_if_asked_for(tmp_path: Path) -> None:
    """Above everything else; what strangers wrote by that name goes, whoever sends it."""
    talk = make_talk(tmp_path, received_spf=True)
    outcome = run_message(talk.conversation, OUTSIDE, SPF_FIELD + b"received-spf: none\r\n" + MESSAGE).outcome
    ours = run_message(talk.conversation, OURS, SPF_FIELD + OUR_MESSAGE).outcome

    assert added(outcome) == [b"Authentication-Results", b"Received-SPF"]
    assert outcome is not None
    assert outcome.removals == (RemoveHeader("Received-SPF", 2), RemoveHeader("Received-SPF", 1))
    assert ours is not None
    assert ours.removals == (RemoveHeader("Received-SPF", 1),)


def test_received_spf_is_left_alone_if_not_asked_for(tmp_path: Path) -> None:
    """By default we neither write nor remove it; of a relay it always stays."""
    plain, relays = make_talk(tmp_path), ["203.0.113.250/32"]
    behind = make_talk(tmp_path, relays=relays, received_spf=True)
    outcome = run_message(plain.conversation, OUTSIDE, SPF_FIELD + MESSAGE).outcome
    relayed = run_message(behind.conversation, RELAYED, SPF_FIELD + RECEIVED % b"192.0.2.1" + MESSAGE).outcome

    assert added(outcome) == [b"Authentication-Results"]
    assert outcome is not None
    assert outcome.removals == ()
    assert added(relayed) == [b"Authentication-Results", b"Received-SPF"]
    assert relayed is not None
    assert relayed.removals == ()
    assert b"client-ip=192.0.2.1" in relayed.insertions[0].field.value


RECEIVED = (
    b"Received: from mail.example.net (mail.example.net [%b])\r\n"
    b"\tby mx2.example.org (Postfix) with ESMTP id 1; Mon, 1 Jun 2026 00:00:00 +0000\r\n"
)
RELAYED = replace(OUTSIDE, address="203.0.113.250", helo="mx2.example.org")


def test_behind_a_relay_its_client_is_judged_and_recorded(tmp_path: Path) -> None:
    """SPF and the rules at the end see who gave the mail to the relay; the record names both."""
    rules = "at end-of-message { yes: accept if client_address in 192.0.2.1 and spf is pass }"
    talk = make_talk(tmp_path, rules, relays=["203.0.113.250/32"])
    outcome = run_message(talk.conversation, RELAYED, RECEIVED % b"192.0.2.1" + MESSAGE).outcome

    assert "spf=pass" in field_text(outcome)
    assert talk.records[-1]["verdict"]["rule"] == "yes"
    assert talk.records[-1]["client"] == {
        "address": "192.0.2.1",
        "name": "mail.example.net",
        "relay": "203.0.113.250",
    }
    assert talk.records[-1]["helo"] == "mail.example.net"


def test_a_strangers_received_field_is_not_believed(tmp_path: Path) -> None:
    """Who is no relay may name any client: it is itself that is checked."""
    stranger = replace(OUTSIDE, address="203.0.113.66")
    talk = make_talk(tmp_path, relays=["203.0.113.250/32"])
    outcome = run_message(talk.conversation, stranger, RECEIVED % b"192.0.2.1" + MESSAGE).outcome

    assert "spf=fail" in field_text(outcome)
    assert talk.records[-1]["client"]["address"] == "203.0.113.66"


@pytest.mark.parametrize("header", [b"", b"Received: by mx2.example.org (Postfix, from userid 33)\r\n"])
def test_a_relay_that_does_not_say_whose_mail_it_is_proves_nothing(tmp_path: Path, header: bytes) -> None:
    """SPF is none, with the reason, whatever the relay itself may send."""
    zone = 'example.net. TXT "v=spf1 ip4:203.0.113.250 -all"'
    talk = make_talk(tmp_path, relays=["203.0.113.250/32"], zone=zone)
    outcome = run_message(talk.conversation, RELAYED, header + MESSAGE).outcome

    assert "spf=pass" not in field_text(outcome)
    results = [one for one in talk.records[-1]["results"] if one["method"] == "spf"]
    assert [one["result"] for one in results] == ["none", "none"]
    assert "203.0.113.250" in results[0]["reason"]


def test_a_relay_does_not_make_mail_ours(tmp_path: Path) -> None:
    """A client in our networks that only a relay's field names is checked and not signed."""
    talk = make_talk(tmp_path, relays=["203.0.113.250/32"])
    outcome = run_message(talk.conversation, RELAYED, RECEIVED % b"198.51.100.9" + OUR_MESSAGE).outcome

    assert added(outcome) == [b"Authentication-Results"]
    assert talk.records[-1]["client"]["address"] == "198.51.100.9"


def test_behind_a_relay_spf_is_not_known_before_the_message(tmp_path: Path) -> None:
    """A rule at rcpt refuses nobody for the address of the relay."""
    rules = (
        'at rcpt { no: reject "5.7.23 No" if spf is fail }\nat end-of-message { also: warn if spf is pass }'
    )
    talk = make_talk(tmp_path, rules, stages=ALL_STAGES, relays=["203.0.113.250/32"])
    replayed = run_message(talk.conversation, RELAYED, RECEIVED % b"192.0.2.1" + MESSAGE)

    assert [response for _, response in replayed.responses] == [CONTINUE] * 5
    assert "spf=pass" in field_text(replayed.outcome)


def test_a_refused_message_is_not_changed(tmp_path: Path) -> None:
    """Nothing is signed, removed or added, and the record has the rule."""
    talk = make_talk(tmp_path, 'at end-of-message { no: reject "5.7.1 No" }')
    outcome = run_message(talk.conversation, OURS, FORGED + OUR_MESSAGE).outcome

    assert outcome is not None
    assert (outcome.removals, outcome.insertions, outcome.quarantine) == ((), (), None)
    assert outcome.response.answer is Answer.REJECT
    assert talk.records[-1]["verdict"]["rule"] == "no"
    assert "signatures" not in talk.records[-1]


def test_only_the_stages_that_are_ours_are_decided(tmp_path: Path) -> None:
    """By default nothing is asked of the rules before the end of the message, and one line is recorded."""
    talk = make_talk(tmp_path)
    replayed = run_message(talk.conversation, OUTSIDE, MESSAGE)

    assert [response for _, response in replayed.responses] == [CONTINUE] * 5
    assert [record["event"] for record in talk.records] == ["message"]


def test_every_stage_can_be_decided_and_is_recorded(tmp_path: Path) -> None:
    """Without a policy protocol the milter decides all; each decision is a line of the record."""
    talk = make_talk(tmp_path, stages=ALL_STAGES)
    run_message(talk.conversation, OUTSIDE, MESSAGE)

    assert [record["stage"] for record in talk.records] == [stage.value for stage in Stage]
    instances = {record.get("instance") for record in talk.records[2:]}
    assert len(instances) == 1


def test_a_refused_recipient_is_left_out(tmp_path: Path) -> None:
    """The message goes on to the others, and recipient_count does not count it."""
    rules = 'at rcpt { no: reject "5.7.1 No" if recipient is "no@example.org" }'
    talk = make_talk(tmp_path, rules, ALL_STAGES)
    occasion = replace(OUTSIDE, recipients=("no@example.org", "alice@example.org"))
    replayed = run_message(talk.conversation, occasion, MESSAGE)

    assert [response.answer for stage, response in replayed.responses if stage is Stage.RCPT] == [
        Answer.REJECT,
        Answer.CONTINUE,
    ]
    assert talk.records[-1]["recipients"] == ["alice@example.org"]
    assert talk.records[-1]["recipient_count"] == 1


def test_more_recipients_than_can_be_remembered_are_deferred(tmp_path: Path) -> None:
    """With the code for too many recipients; those before stay. The record tells of it once a message."""
    talk = make_talk(tmp_path, bounds=MessageBounds(recipients=5))
    begin(talk.conversation)  # with one
    replies = [talk.conversation.rcpt("<alice@example.org>", {}).reply for _ in range(7)]

    assert [str(reply)[:9] for reply in replies[4:]] == ["452 4.5.3"] * 3
    assert replies[:4] == [None] * 4
    (told,) = talk.records
    assert (told["bound"], told["maximum"], told["consequence"]) == ("milter.max_recipients", 5, "refused")
    assert told["client"] == {"address": "192.0.2.1"}
    talk.conversation.end_of_message({})
    assert len(talk.records[-1]["recipients"]) == 5


def test_fields_of_rules_that_are_left_out_are_told(tmp_path: Path) -> None:
    """Once a message; the next one has its fields."""
    rules = 'at rcpt { a: add-header "X-For: {recipient}" }'
    talk = make_talk(tmp_path, rules, ALL_STAGES, bounds=MessageBounds(added_fields=2))
    many = replace(OUTSIDE, recipients=tuple(f"{name}@example.org" for name in "abcde"))
    outcomes = [run_message(talk.conversation, many, MESSAGE).outcome for _ in range(2)]

    assert [added(outcome).count(b"X-For") for outcome in outcomes] == [2, 2]
    told = [record for record in talk.records if record["event"] == "bound"]
    assert [(one["bound"], one["maximum"], one["consequence"]) for one in told] == [
        ("milter.max_added_fields", 2, "left-out")
    ] * 2


def test_more_header_fields_than_are_looked_at_leave_the_checks_undone(tmp_path: Path) -> None:
    """As a header of too many octets does; the record of the message says which it was."""
    talk = make_talk(tmp_path, bounds=MessageBounds(header_fields=100))
    outcome = run_message(talk.conversation, OUTSIDE, b"X: y\r\n" * 100 + FORGED + MESSAGE).outcome

    assert "dkim=temperror" in field_text(outcome)
    assert talk.records[-1]["error"] == "the header has more than max_header_fields"


def test_spf_is_known_before_the_message_where_a_rule_asks_for_it(tmp_path: Path) -> None:
    """At MAIL, once a message; our own mail is not asked about."""
    rules = 'at mail { no: reject "5.7.23 No" if spf is fail }'
    talk = make_talk(tmp_path, rules, ALL_STAGES)
    forger = replace(OUTSIDE, address="203.0.113.9")

    assert run_message(talk.conversation, forger, MESSAGE).outcome is None
    assert run_message(talk.conversation, replace(forger, login="bob"), MESSAGE).outcome is not None


def test_a_hold_is_remembered_until_the_end(tmp_path: Path) -> None:
    """From RCPT, for that message alone; an accept at the end does not undo it."""
    rules = 'at rcpt { keep: hold "why" if sender is "bob@example.net" }\nat end-of-message { fine: accept }'
    talk = make_talk(tmp_path, rules, ALL_STAGES)
    held = run_message(talk.conversation, OUTSIDE, MESSAGE).outcome
    free = run_message(talk.conversation, replace(OUTSIDE, sender="ann@example.net"), MESSAGE).outcome

    assert held is not None
    assert free is not None
    assert (held.quarantine, free.quarantine) == ("why", None)
    assert held.response.answer is Answer.ACCEPT


def test_fields_that_rules_add_stand_below_ours(tmp_path: Path) -> None:
    """In the order in which their rules ran, whichever stage that was."""
    rules = 'at mail { a: add-header "X-A: 1" }\nat end-of-message { b: add-header "X-B: 2" }'
    outcome = run_message(make_talk(tmp_path, rules, ALL_STAGES).conversation, OUTSIDE, MESSAGE).outcome

    assert added(outcome) == [b"Authentication-Results", b"X-A", b"X-B"]


def test_a_header_too_large_leaves_the_checks_undone(tmp_path: Path) -> None:
    """Temperror in field and record, SPF as ever, and the forged field behind it is still found."""
    header = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 50) for number in range(40))
    talk = make_talk(tmp_path, bounds=MessageBounds(header_octets=1024))
    outcome = run_message(talk.conversation, OUTSIDE, header + FORGED + MESSAGE).outcome

    assert outcome is not None
    assert all(part in field_text(outcome) for part in ("dkim=temperror", "dmarc=temperror", "spf=pass"))
    assert len(outcome.removals) == 1
    assert talk.records[-1]["error"] == "the header is larger than max_header_bytes"


def test_our_own_mail_with_a_header_too_large_goes_unsigned_and_says_so(tmp_path: Path) -> None:
    """It is ours: there is nothing to check, and the record tells why there is no signature."""
    talk = make_talk(tmp_path, bounds=MessageBounds(header_octets=1024))
    outcome = run_message(talk.conversation, OURS, b"X-Large: " + b"x" * 2000 + b"\r\n" + OUR_MESSAGE).outcome

    assert added(outcome) == []
    assert talk.records[-1]["error"] == "the header is larger than max_header_bytes"


def test_dns_trouble_is_temperror_and_a_reject_rule_defers(tmp_path: Path) -> None:
    """What cannot be known now is never fail."""
    rules = 'at end-of-message { forged: reject "5.7.26 Forged" if dmarc is fail }'
    talk = make_talk(tmp_path, rules, failing=["example.net", "_dmarc.example.net"])
    outcome = run_message(talk.conversation, OUTSIDE, MESSAGE).outcome

    assert outcome is not None
    assert outcome.response.answer is Answer.TEMPFAIL
    assert {result["result"] for result in talk.records[-1]["results"]} >= {"temperror"}


def test_the_size_is_that_of_the_message(tmp_path: Path) -> None:
    """Octets as they came, whether or not anybody looked at the body."""
    talk = make_talk(tmp_path)
    for raw in (MESSAGE, b"\r\n", FORGED + MESSAGE + b"x" * 100_000):
        run_message(talk.conversation, OUTSIDE, raw)
        assert talk.records[-1]["size"] == len(raw)


class Stumbling:
    """A policy with a bug in it."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        """Raises for the sender bug@example.net, else says nothing."""
        envelope = transaction.envelope
        if envelope and envelope.reverse_path and envelope.reverse_path.local_part == "bug":
            raise ZeroDivisionError
        return Verdict(Action.CONTINUE, stages[-1])


def test_a_bug_defers_its_message_and_no_other(tmp_path: Path) -> None:
    """The engine calls `fail`; the record says so, and the next message of the session is none the worse."""
    talk = make_talk(tmp_path)
    conversation = Conversation(replace(talk.surroundings, policy=Stumbling()))
    begin(conversation, "<bug@example.net>")
    with pytest.raises(ZeroDivisionError):
        conversation.end_of_message({"i": "4B2"})
    conversation.fail()

    assert talk.records[-1]["queue_id"] == "4B2"
    assert talk.records[-1]["verdict"]["action"] == "defer"
    assert "error" in talk.records[-1]
    assert run_message(conversation, OUTSIDE, MESSAGE).outcome is not None
    assert talk.records[-1]["verdict"]["action"] == "continue"


def test_a_bug_in_a_step_without_an_answer_defers_the_message_at_its_end(tmp_path: Path) -> None:
    """A header field that raised cannot be answered; the end can."""
    talk = make_talk(tmp_path)
    begin(talk.conversation)
    talk.conversation.fail()

    assert talk.conversation.end_of_message({}).response == FAILED
    assert "error" in talk.records[-1]


def test_a_bug_before_any_message_defers_all_of_the_session(tmp_path: Path) -> None:
    """Who the client is may be wrong then; a new session is a new start."""
    talk = make_talk(tmp_path)
    talk.conversation.connect("mail.example.net", "192.0.2.1", 1, {})
    talk.conversation.fail()
    for _ in range(2):
        talk.conversation.mail("<bob@example.net>", (), {})
        assert talk.conversation.end_of_message({}).response == FAILED
    begin(talk.conversation)
    assert talk.conversation.end_of_message({}).response == CONTINUE


def test_without_connect_the_client_must_be_told_by_macros(tmp_path: Path) -> None:
    """Or mail of a stranger would pass for a local submission, and be signed."""
    talk = make_talk(tmp_path)
    with pytest.raises(ProtocolError):
        talk.conversation.mail("<bob@example.org>", (), {})
    talk.conversation.mail("<bob@example.org>", (), {"{client_addr}": "192.0.2.1"})
    outcome = talk.conversation.end_of_message({})

    assert added(outcome) == [b"Authentication-Results"]


@pytest.mark.parametrize("verb", ["rcpt", "data", "header", "end_of_headers", "body", "end_of_message"])
def test_no_message_is_spoken_of_before_mail(tmp_path: Path, verb: str) -> None:
    """An MTA out of turn is a ProtocolError, never a message without a sender."""
    conversation = make_talk(tmp_path).conversation
    arguments: dict[str, tuple[Any, ...]] = {
        "rcpt": ("<a@example.org>", {}),
        "data": ({},),
        "header": (b"From", b" a"),
        "end_of_headers": (),
        "body": (b"x",),
        "end_of_message": ({},),
    }
    conversation.connect("x", "192.0.2.1", 1, {})
    with pytest.raises(ProtocolError):
        getattr(conversation, verb)(*arguments[verb])


@pytest.mark.parametrize("ending", ["abort", "mail", "helo", "end"])
def test_nothing_is_left_of_a_message_that_ended(tmp_path: Path, ending: str) -> None:
    """Abort, a second MAIL, HELO or the end: the next message starts with nothing but the session."""
    talk = make_talk(tmp_path)
    conversation = talk.conversation
    begin(conversation)
    conversation.header(b"Authentication-Results", b" mx.example.org; none")
    conversation.body(b"x" * 1000)
    if ending == "abort":
        conversation.abort()
    elif ending == "helo":
        conversation.helo("mail.example.net", {})
    elif ending == "end":
        conversation.end_of_message({"i": "4B1"})
    conversation.mail("<>", (), {})
    outcome = conversation.end_of_message({})

    assert outcome.removals == ()
    assert talk.records[-1]["size"] == len(b"\r\n")
    assert talk.records[-1]["sender"] == "<>"
    assert "recipients" not in talk.records[-1]
    assert "queue_id" not in talk.records[-1]
    assert talk.records[-1]["client"]["address"] == "192.0.2.1"


def test_a_second_helo_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """After STARTTLS a client says HELO again: what its first name left is over, what connect left stays."""
    rules = (
        'at connect {\n    seen: add-header "X-Connect: yes"\n}\n'
        'at helo {\n    told: add-header "X-Helo: {helo_name}"\n'
        '    odd: hold "odd" if helo_name is "odd.example.net"\n}'
    )
    conversation = make_talk(tmp_path, rules, ALL_STAGES).conversation
    conversation.connect("mail.example.net", "192.0.2.1", 40000, {})
    conversation.helo("odd.example.net", {})
    conversation.helo("mail.example.net", {})
    conversation.mail("<bob@example.net>", (), {})
    outcome = conversation.end_of_message({})

    assert added(outcome) == [b"Authentication-Results", b"X-Connect", b"X-Helo"]
    assert outcome.insertions[0].field.value == b" mail.example.net"
    assert outcome.quarantine is None


def test_a_login_ends_with_its_session_and_with_the_macro(tmp_path: Path) -> None:
    """Each MAIL says anew who is logged in; a new CONNECT forgets everything."""
    conversation = make_talk(tmp_path).conversation
    conversation.connect("x", "192.0.2.1", 1, {})
    conversation.mail("<bob@example.org>", (), {"{auth_authen}": "bob"})
    conversation.header(b"From", b" bob@example.org")
    assert added(conversation.end_of_message({})) == [b"DKIM-Signature"]
    conversation.mail("<bob@example.org>", (), {})
    assert added(conversation.end_of_message({})) == [b"Authentication-Results"]


RAW = st.lists(
    st.sampled_from(
        [
            b"From: bob@example.net",
            b"Authentication-Results: mx.example.org; spf=pass",
            b"authentication-results : (x) MX.example.org/1; none",
            b"Authentication-Results: other.example; none",
            b" folded",
            b"\tfolded",
            b"Subject: \xff\xfe\x00 \xc3\xa4",
            b"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; h=from; bh=; b=",
            b"no field",
            b"",
            b"X:\r",
            b"\rX: y",
        ]
    ),
    max_size=12,
)


@given(lines=RAW, tail=st.binary(max_size=50), is_ours=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_only_our_own_fields_change(
    tmp_path: Path, lines: list[bytes], tail: bytes, is_ours: bool
) -> None:
    """Any message: what goes is Authentication-Results that claim our name, what comes is ours."""
    raw = b"\r\n".join(lines) + tail
    outcome = run_message(make_talk(tmp_path).conversation, OURS if is_ours else OUTSIDE, raw).outcome
    assert outcome is not None
    results = [value for name, value in split_message(raw)[0] if name.lower() == RESULTS_FIELD]
    removed = {removal.occurrence for removal in outcome.removals}

    assert {removal.name.lower().encode() for removal in outcome.removals} <= {RESULTS_FIELD}
    ours = {number for number, value in enumerate(results, 1) if b"mx.example" in value.lower()}
    plain = {number for number, value in enumerate(results, 1) if value == b" other.example; none"}
    assert ours <= removed
    assert not removed & plain  # what the random octets spoilt may go, as no reader can be sure of it
    assert set(added(outcome)) <= ({b"DKIM-Signature"} if is_ours else {b"Authentication-Results"})
    assert all(_is_clean(insertion.field) for insertion in outcome.insertions)


def _is_clean(field: HeaderField) -> bool:
    """One field: every line after the first begins with white space, and there is no NUL."""
    lines = field.value.split(b"\r\n")
    return all(line[:1] in (b" ", b"\t") for line in lines[1:]) and not set(b"\r\n\0") & set(b"".join(lines))


def test_a_warning_is_logged_once_though_the_verdict_is_kept_for_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that connect discards says so once, not again at the end of its message."""
    rules = 'at connect {\n    tell: warn "a guest from {client_address}"\n    away: discard\n}'
    talk = make_talk(tmp_path, rules, stages=ALL_STAGES)

    run_message(talk.conversation, OUTSIDE, MESSAGE)

    assert [one.getMessage() for one in caplog.records if "guest" in one.getMessage()] == [
        f"{OUTSIDE.address}: warned by tell: a guest from {OUTSIDE.address}"
    ]
