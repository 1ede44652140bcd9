from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd import postfix
from mailreeve_policyd.errors import BoundError, ProtocolError
from mailreeve_policyd.postfix import (
    RequestBounds,
    RequestParser,
    format_answer,
    parse_attributes,
    parse_transaction,
)
from mailreeve_policyd.smtp import EnhancedStatus, Mailbox, Reply, Stage
from mailreeve_policyd.transaction import IPAddress, Transaction, parse_address
from mailreeve_policyd.verdict import Action, AddHeader, Verdict

# What smtpd of Postfix 3.7 sends for RCPT, in its order
RCPT = """\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.7
client_name=mail.example.net
client_port=40312
reverse_client_name=mail.example.net
server_address=198.51.100.1
server_port=25
helo_name=mail.example.net
sender=Bob@Example.net
recipient=alice@example.org
recipient_count=0
queue_id=
instance=1f2b.65a0c0de.1e240.0
size=12345
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username=bob
sasl_sender=
ccert_subject=Alice+2BBob
ccert_issuer=CA+C3+A9
ccert_fingerprint=C2:9D
ccert_pubkey_fingerprint=68:B3
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=submission

"""


def request(**changes: str) -> bytes:
    lines = [f"{name}={value}\n" for name, value in _pairs(RCPT) if name not in changes]
    return "".join([*lines, *(f"{name}={value}\n" for name, value in changes.items()), "\n"]).encode()


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in text.strip().split("\n"):
        name, _, value = line.partition("=")
        yield name, value


def parse_all(chunks: Iterable[bytes]) -> list[Mapping[str, str]]:
    parser = RequestParser()
    return [attributes for chunk in chunks for attributes in parser.feed(chunk)]


def transaction(**changes: str) -> Transaction:
    parsed = parse_transaction(parse_all([request(**changes)])[0])
    assert parsed is not None
    return parsed


def address(text: str) -> IPAddress | None:
    return parse_address(text)


# -- cutting requests -------------------------------------------------------------------------------------


def test_requests_are_the_same_however_they_are_chunked() -> None:
    """Octet by octet, in one piece, several in one segment: the same requests come out."""
    octets = request() + request(protocol_state="DATA") + request(recipient="x=y@example.org")

    whole = parse_all([octets])

    assert [one["protocol_state"] for one in whole] == ["RCPT", "DATA", "RCPT"]
    assert parse_all(bytes([octet]) for octet in octets) == whole


@given(st.lists(st.integers(1, 400), max_size=12))
@settings(max_examples=50)
def test_requests_do_not_depend_on_where_segments_end(sizes: list[int]) -> None:
    """Any segmentation of the same octets gives the same requests."""
    octets = (request() + request(protocol_state="MAIL")) * 2
    chunks, at = [], 0
    for size in sizes:
        chunks.append(octets[at : at + size])
        at += size

    assert parse_all([*chunks, octets[at:]]) == parse_all([octets])


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_octets_are_requests_or_a_protocol_error(octets: bytes) -> None:
    """Nothing else comes out of hostile octets, and the same whether they come at once or one by one."""

    def outcome(chunks: Iterable[bytes]) -> tuple[list[Mapping[str, str]], bool]:
        parser = RequestParser()
        found: list[Mapping[str, str]] = []
        try:
            for chunk in chunks:
                found.extend(parser.feed(chunk))
        except ProtocolError:
            return found, True
        return found, False

    assert outcome([octets]) == outcome(bytes([octet]) for octet in octets)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="=\n\0", codec="utf-8"), min_size=1, max_size=20),
        st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), max_size=40),
        max_size=20,
    )
)
@settings(max_examples=50)
def test_every_attribute_comes_out_as_it_went_in(given_attributes: dict[str, str]) -> None:
    """Names and values survive, `=` in values, CR and all of Unicode included."""
    attributes = {"request": postfix.REQUEST, **given_attributes} | {"request": postfix.REQUEST}
    octets = "".join(f"{name}={value}\n" for name, value in attributes.items()).encode() + b"\n"

    assert parse_all([octets]) == [attributes]


def test_a_thousand_requests_fit_one_segment() -> None:
    """Pipelining has no bound of its own."""
    assert len(parse_all([request() * 1000])) == 1000


def test_the_first_of_two_attributes_of_one_name_counts() -> None:
    """SMTPD_POLICY_README leaves it to the server; what came first cannot be overridden by what follows."""
    [attributes] = parse_all([b"request=smtpd_access_policy\nsender=a@example.org\nsender=b@example.org\n\n"])

    assert attributes["sender"] == "a@example.org"


def test_octets_that_are_no_utf8_stay_distinct() -> None:
    """Two logins that differ in a lone octet are two logins."""
    values = [
        parse_attributes(b"request=smtpd_access_policy\nsasl_username=b" + octet)["sasl_username"]
        for octet in (b"\xe4", b"\xf6", "ä".encode())
    ]

    assert len(set(values)) == 3


def _with_attributes(count: int) -> bytes:
    return b"".join([b"request=smtpd_access_policy\n", *(b"a%d=b\n" % n for n in range(1, count)), b"\n"])


def test_as_many_attributes_as_the_bound_allows_are_taken() -> None:
    """The bound itself is within it."""
    assert len(parse_attributes(_with_attributes(200)[:-2])) == 200


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"\n", "without attributes"),
        (b"request=smtpd_access_policy\nnonsense\n\n", "no attribute: nonsense"),
        (b"request=smtpd_access_policy\n=value\n\n", "no attribute"),
        (b"request=smtpd_access_policy\nsender=a\0b\n\n", "NUL"),
        (b"request=other\n\n", "not a request for smtpd_access_policy: other"),
        (b"protocol_state=RCPT\n\n", "not a request for smtpd_access_policy: none"),
        (b"request=smtpd_access_policy\r\nsender=\r\n\r\n\n", "no attribute"),
        (b"request=smtpd_access_policy\n" + b"a=b\n" * 300 + b"\n", "more than 200 attributes"),
        (_with_attributes(201), "more than 200 attributes"),
        (b"request=smtpd_access_policy\nsender=" + b"a" * 9000 + b"\n\n", "line of more than"),
        (b"a=b\n" * 20_000, "octets"),
        (b"a" * 70_000, "octets"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n\n", "no attribute"),
    ],
)
def test_what_is_no_request_is_a_protocol_error(octets: bytes, problem: str) -> None:
    """The door then closes without an answer."""
    with pytest.raises(ProtocolError, match=problem):
        parse_all([octets])


@pytest.mark.parametrize(
    ("octets", "bound", "maximum"),
    [
        (b"request=smtpd_access_policy\n" + b"a=b\n" * 5 + b"\n", "policyd.max_attributes", 4),
        (_with_attributes(5), "policyd.max_attributes", 4),
        (b"request=smtpd_access_policy\nsender=" + b"a" * 100 + b"\n\n", "policyd.max_line_bytes", 100),
        (b"request=smtpd_access_policy\n" + b"sender=a\n" * 30 + b"\n", "policyd.max_request_bytes", 200),
        (b"a" * 201, "policyd.max_request_bytes", 200),
    ],
)
def test_what_is_beyond_a_bound_is_told_by_its_setting(octets: bytes, bound: str, maximum: int) -> None:
    """For the record; all of them are the administrator's to choose."""
    parser = RequestParser(RequestBounds(octets=200, line_octets=100, attributes=4))
    with pytest.raises(BoundError) as caught:
        list(parser.feed(octets))

    assert (caught.value.bound, caught.value.maximum) == (bound, maximum)


def test_what_is_within_larger_bounds_is_taken() -> None:
    """Where the mail server sends more than ours does."""
    parser = RequestParser(RequestBounds(octets=200_000, line_octets=150_000, attributes=300))
    octets = _with_attributes(299)[:-1] + b"sender=" + b"a" * 140_000 + b"\n\n"

    [attributes] = parser.feed(octets)

    assert (len(attributes), len(attributes["sender"])) == (300, 140_000)


def test_requests_before_a_broken_one_still_come_out() -> None:
    """What was asked properly is answered."""
    parser = RequestParser()
    requests = parser.feed(request() + b"nonsense\n\n")

    assert next(requests)["protocol_state"] == "RCPT"
    with pytest.raises(ProtocolError):
        next(requests)


def test_a_line_in_an_error_is_escaped_and_cut() -> None:
    """A client cannot write into the log."""
    with pytest.raises(ProtocolError) as caught:
        parse_attributes(b"request=smtpd_access_policy\n\x1b[31m\r" + b"x" * 500)

    assert r"\x1b[31m\x0d" in str(caught.value)
    assert len(str(caught.value)) < 150


# -- attributes to a transaction --------------------------------------------------------------------------


def test_a_request_of_postfix_becomes_a_transaction() -> None:
    """Every attribute has its place."""
    found = transaction()
    session = found.session

    assert (found.stage, found.size, found.instance) == (Stage.RCPT, 12345, "1f2b.65a0c0de.1e240.0")
    assert found.envelope is not None
    assert str(found.envelope.reverse_path) == "Bob@example.net"
    assert str(found.recipient) == "alice@example.org"
    assert (session.client_address, session.client_port) == (address("192.0.2.7"), 40312)
    assert (session.server_address, session.server_port) == (address("198.51.100.1"), 25)
    assert (session.client_name, session.reverse_client_name) == ("mail.example.net", "mail.example.net")
    assert (session.helo_name, session.protocol_name) == ("mail.example.net", "ESMTP")
    assert (session.sasl_method, session.sasl_username, session.sasl_sender) == ("PLAIN", "bob", None)
    assert session.policy_context == "submission"


def test_tls_comes_with_certificate_names_decoded_from_xtext() -> None:
    """SMTPD_POLICY_README: ccert values are xtext (RFC 3461 section 4) of UTF-8."""
    tls = transaction().session.tls

    assert tls is not None
    assert (tls.protocol, tls.cipher, tls.keysize) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
    assert (tls.certificate_subject, tls.certificate_issuer) == ("Alice+Bob", "CAé")
    assert (tls.certificate_fingerprint, tls.public_key_fingerprint) == ("C2:9D", "68:B3")


def test_no_encryption_is_no_tls() -> None:
    """Empty attributes are absent ones."""
    assert transaction(encryption_protocol="", encryption_keysize="0").session.tls is None


def test_xtext_that_is_none_stays_as_it_is() -> None:
    """A plus sign without two hexadecimal digits stands for itself."""
    tls = transaction(ccert_subject="a+zz+4").session.tls

    assert tls is not None
    assert tls.certificate_subject == "a+zz+4"


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        ("CONNECT", Stage.CONNECT),
        ("EHLO", Stage.HELO),
        ("HELO", Stage.HELO),
        ("MAIL", Stage.MAIL),
        ("RCPT", Stage.RCPT),
        ("DATA", Stage.DATA),
        ("END-OF-MESSAGE", Stage.END_OF_MESSAGE),
    ],
)
def test_a_protocol_state_is_a_stage(state: str, stage: Stage) -> None:
    """EHLO is helo."""
    assert transaction(protocol_state=state).stage is stage


@pytest.mark.parametrize("state", ["VRFY", "ETRN", "SOMETHING-NEW"])
def test_what_is_no_mail_transaction_is_none(state: str) -> None:
    """VRFY, ETRN and what a later Postfix may ask about are answered with DUNNO."""
    assert parse_transaction(parse_all([request(protocol_state=state)])[0]) is None


@pytest.mark.parametrize("state", ["", None])
def test_a_request_without_protocol_state_is_a_protocol_error(state: str | None) -> None:
    """Nothing can be decided about no moment."""
    attributes = {"request": postfix.REQUEST} | ({} if state is None else {"protocol_state": state})

    with pytest.raises(ProtocolError, match="protocol_state"):
        parse_transaction(attributes)


def test_unknown_names_and_addresses_are_absent() -> None:
    """Postfix says `unknown` where it knows none."""
    session = transaction(
        client_name="unknown", reverse_client_name="unknown", client_address="unknown", client_port="unknown"
    ).session

    assert (session.client_name, session.reverse_client_name) == (None, None)
    assert (session.client_address, session.client_port) == (None, None)


def test_an_empty_instance_is_none() -> None:
    """At MAIL there is none yet; an absent instance equals no other."""
    assert transaction(instance="").instance is None


def test_an_empty_sender_is_the_null_reverse_path() -> None:
    """`<>` is an envelope without a reverse-path, not a transaction without an envelope."""
    envelope = transaction(sender="").envelope

    assert envelope is not None
    assert envelope.reverse_path is None


def test_there_is_no_envelope_before_mail() -> None:
    """At CONNECT and HELO nobody has said a sender."""
    found = transaction(protocol_state="EHLO", sender="", recipient="", instance="")

    assert (found.envelope, found.recipient) == (None, None)


def test_recipient_count_is_unknown_before_data() -> None:
    """Postfix sends 0 there, which is not a count."""
    assert transaction(recipient_count="0").recipient_count is None
    assert transaction(protocol_state="DATA", recipient_count="3", recipient="").recipient_count == 3


def test_the_recipient_is_absent_at_data_with_several() -> None:
    """Postfix sends it there only if there is one; then it is the accepted recipient of the envelope."""
    several = transaction(protocol_state="DATA", recipient="", recipient_count="2")
    single = transaction(protocol_state="DATA", recipient_count="1")

    assert several.recipient is None
    assert single.envelope is not None
    assert single.envelope.recipients == (single.recipient,)


@pytest.mark.parametrize("size", ["", "0", "-1", "1e3", "9" * 19, "٣"])  # the last is an Arabic digit
def test_a_size_that_is_no_number_is_unknown(size: str) -> None:
    """Zero means that the client claimed none; what does not fit 64 bits is no number."""
    assert transaction(size=size).size is None


def test_unknown_attributes_are_kept_for_the_rules() -> None:
    """attribute("tls_sni") reaches what a newer Postfix sends; an empty value is absent."""
    found = transaction(tls_sni="mx.example.org", odd="a=b")

    assert found.attributes["tls_sni"] == "mx.example.org"
    assert found.attributes["odd"] == "a=b"
    assert "stress" not in found.attributes


def test_addresses_may_be_of_either_family() -> None:
    """IPv4-mapped IPv6 is IPv4."""
    assert transaction(client_address="2001:db8::7").session.client_address == address("2001:db8::7")
    assert transaction(client_address="::ffff:192.0.2.7").session.client_address == address("192.0.2.7")


# -- verdicts to answers ----------------------------------------------------------------------------------

REFUSED = Reply(550, EnhancedStatus(5, 7, 1), "Not here")
DEFERRED = Reply(450, EnhancedStatus(4, 7, 1), "Later")


def verdict(action: Action, **parts: object) -> Verdict:
    return Verdict(action, Stage.RCPT, **parts)  # type: ignore[arg-type] # a table of parts


@pytest.mark.parametrize(
    ("decided", "octets"),
    [
        (verdict(Action.CONTINUE), b"action=DUNNO\n\n"),
        (verdict(Action.ACCEPT, rule="office"), b"action=DUNNO\n\n"),
        (verdict(Action.PERMIT, rule="office"), b"action=OK\n\n"),
        (verdict(Action.DEFER, reply=DEFERRED), b"action=DEFER_IF_PERMIT 4.7.1 Later\n\n"),
        (verdict(Action.REJECT, reply=REFUSED), b"action=REJECT 5.7.1 Not here\n\n"),
        (verdict(Action.DISCARD, reason="virus"), b"action=DISCARD virus\n\n"),
        (verdict(Action.DISCARD), b"action=DISCARD\n\n"),
        (verdict(Action.HOLD, reason="many addresses"), b"action=HOLD many addresses\n\n"),
        (verdict(Action.CONTINUE, edits=(AddHeader("X-A", "b"),)), b"action=PREPEND X-A: b\n\n"),
        (verdict(Action.ACCEPT, edits=(AddHeader("X-A", "b"),)), b"action=PREPEND X-A: b\n\n"),
    ],
)
def test_a_verdict_is_an_access_action(decided: Verdict, octets: bytes) -> None:
    """DESIGN.md section 3; accept is never OK."""
    assert format_answer(decided, Stage.RCPT).octets == octets


@pytest.mark.parametrize("moment", Stage)
@pytest.mark.parametrize("action", Action)
def test_every_action_has_an_answer_at_every_stage(action: Action, moment: Stage) -> None:
    """No verdict leaves Postfix without an answer, and each answer is one line and an empty one."""
    octets = format_answer(verdict(action, reason="a", edits=(AddHeader("X-A", "b"),)), moment).octets

    assert octets.startswith(b"action=")
    assert octets.endswith(b"\n\n")
    assert octets.count(b"\n") == 2


def test_only_the_first_field_is_prepended_and_the_others_are_named() -> None:
    """An answer carries one action."""
    answer = format_answer(
        verdict(Action.CONTINUE, edits=(AddHeader("X-A", "1"), AddHeader("X-B", "2"))), Stage.RCPT
    )

    assert answer.octets == b"action=PREPEND X-A: 1\n\n"
    assert answer.skipped == ("add-header X-B",)


def test_no_field_is_prepended_when_something_decided() -> None:
    """The decision goes first; the record names the field."""
    answer = format_answer(verdict(Action.REJECT, reply=REFUSED, edits=(AddHeader("X-A", "1"),)), Stage.RCPT)

    assert answer.octets == b"action=REJECT 5.7.1 Not here\n\n"
    assert answer.skipped == ("add-header X-A",)


@pytest.mark.parametrize("action", [Action.HOLD, Action.DISCARD])
def test_hold_and_discard_are_too_early_before_mail(action: Action) -> None:
    """Postfix skips them in client and helo lists without smtpd_delay_reject: there is no message yet."""
    answer = format_answer(verdict(action, rule="strangers"), Stage.CONNECT)

    assert (answer.octets, answer.skipped, answer.too_early) == (b"action=DUNNO\n\n", ("strangers",), True)


def test_prepend_at_end_of_message_is_skipped() -> None:
    """Postfix ignores it there with a warning; the rules refuse it when they are read."""
    answer = format_answer(verdict(Action.CONTINUE, edits=(AddHeader("X-A", "1"),)), Stage.END_OF_MESSAGE)

    assert (answer.octets, answer.too_early) == (b"action=DUNNO\n\n", False)
    assert answer.skipped == ("add-header X-A",)


@pytest.mark.parametrize("text", ["a\nb", "a\r\n\naction=OK", "ü\u2028x", "a\0b", "\udc80", "x" * 5000])
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    """Whatever a reply, a reason or a field holds, the answer is one line of ASCII, and bounded."""
    reply = Reply(550, EnhancedStatus(5, 7, 1), text)
    for decided in (
        verdict(Action.REJECT, reply=reply),
        verdict(Action.HOLD, reason=text),
        verdict(Action.CONTINUE, edits=(AddHeader("X-A", text),)),
    ):
        octets = format_answer(decided, Stage.RCPT).octets

        assert octets[:-2].isascii()
        assert octets[:-2].decode().isprintable()
        assert octets.endswith(b"\n\n")
        assert len(octets) < 1000


def test_text_that_is_printable_already_is_not_escaped_again() -> None:
    """Values in it were escaped when it was made: their backslashes stay single."""
    decided = verdict(Action.HOLD, reason=r"login b\xe4r")

    assert format_answer(decided, Stage.RCPT).octets == b"action=HOLD login b\\xe4r\n\n"


def test_the_mailbox_of_a_recipient_keeps_its_local_part() -> None:
    """Only the domain is lower case: a local part belongs to its host (RFC 5321 section 2.4)."""
    assert transaction(recipient="Alice@EXAMPLE.org").recipient == Mailbox(
        "Alice@EXAMPLE.org",
        "Alice",
        transaction(recipient="a@example.org").recipient.domain,  # type: ignore[union-attr] # is there
    )


@given(st.lists(st.text('abc="\\{}:,\u00e4\t\x1f\x7f', max_size=8), min_size=1, max_size=6))
def test_the_quick_way_to_read_a_request_reads_what_the_plain_one_does(lines: list[str]) -> None:
    """Whatever stands in it: quotes and braces, a name twice, lines that are none."""

    def first_of_each() -> dict[str, str] | None:
        pairs = [line.partition("=") for line in reversed(lines)]
        return None if any(not name or not equal for name, equal, _ in pairs) else {n: v for n, _, v in pairs}

    block = "\n".join(["request=smtpd_access_policy", *lines]).encode()
    expected = first_of_each()
    if expected is None:
        with pytest.raises(ProtocolError):
            parse_attributes(block)
    else:
        assert parse_attributes(block) == {"request": "smtpd_access_policy", **expected}
