"""Signing; every signature is verified by dkimpy, Mail::DKIM and OpenDKIM, which share no code with ours."""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.dkim import SigningKey, SigningOptions, start_signing, start_verification
from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.crypto import PrivateKey, load_private_key
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.dkim.sign import MAX_COLUMNS, MAX_FIELDS_A_NAME, NEVER_SIGNED, SIGNED_NAMES
from mailreeve_milter.dkim.taglist import parse_tag_list, split_list
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain
from tests.lab import dkim_verifier, opendkim
from tests.lab.dns import DnsServer
from tests.milterd.dkim_messages import NOW, join_message
from tests.milterd.test_dkim_crypto import VECTOR_KEYS

ORG = parse_domain("example.org")


def a_key(name: str, selector: str) -> SigningKey:
    return SigningKey(ORG, parse_domain(selector), load_private_key((VECTOR_KEYS / name).read_bytes()))


RSA = a_key("rfc6376.pem", "r1")
RSA_4096 = a_key("rsa4096.pem", "r2")
ED25519 = a_key("rfc8463.pem", "e1")
KEYS = [RSA, RSA_4096, ED25519]


def record_of(key: SigningKey) -> str:
    private: PrivateKey = key.private_key
    return format_key_record(private)


ZONE = ZoneResolver({f"{key.selector}._domainkey.example.org": {"TXT": [record_of(key)]} for key in KEYS})

FIELDS = [
    HeaderField(b"Received", b" from client.example.org\r\n\tby mx.example.org; today"),
    HeaderField(b"From", b" =?utf-8?q?Alice?= <alice@example.org>"),
    HeaderField(b"To", b" bob@example.net,\r\n\tcarol@example.net"),
    HeaderField(b"Subject", b"\r\n Gr\xc3\xbc\xc3\x9fe  \xff\t"),
    HeaderField(b"Date", b" Mon, 23 Nov 2026 12:00:00 +0000"),
    HeaderField(b"List-Unsubscribe", b" <https://example.org/u>"),
    HeaderField(b"List-Unsubscribe-Post", b" List-Unsubscribe=One-Click"),
    HeaderField(b"X-Mailer", b" test"),
]
BODY = b"Hello  \r\n\r\n.\r\n\tworld\r\n\r\n\r\n"


def sign(
    fields: Sequence[HeaderField] = FIELDS,
    keys: Sequence[SigningKey] = KEYS,
    options: SigningOptions | None = None,
    body: bytes = BODY,
    now: datetime = NOW,
) -> tuple[HeaderField, ...]:
    signing = start_signing(fields, keys, options)
    signing.update(body)
    return signing.finish(now)


def signed_names(field: HeaderField) -> list[str]:
    return list(split_list(parse_tag_list(field.value)["h"]))


def verified_by_us(fields: Sequence[HeaderField], body: bytes = BODY) -> list[str]:
    verification = start_verification(fields, ORG, 8)
    verification.update(body)
    return [outcome.result.result for outcome in verification.finish(ZONE, NOW)]


def verified_by_dkimpy(fields: Sequence[HeaderField], body: bytes = BODY) -> list[bool]:
    def get_txt(name: bytes, timeout: int = 5) -> bytes:
        return ZONE.lookup_txt(name.decode()).records[0]

    message = join_message(fields, body)
    count = sum(field.lower_name == b"dkim-signature" for field in fields)
    return [dkim.DKIM(message).verify(idx=index, dnsfunc=get_txt) for index in range(count)]


def test_our_own_verifier_accepts_them() -> None:
    """RSA and Ed25519 signatures of one pass verify here."""
    assert verified_by_us([*sign(), *FIELDS]) == ["pass", "pass", "pass"]


def test_dkimpy_accepts_them() -> None:
    """RSA and Ed25519 signatures verify with dkimpy, which has other arithmetic (PyNaCl, Python) too."""
    assert verified_by_dkimpy([*sign(), *FIELDS]) == [True, True, True]


@pytest.mark.system
def test_mail_dkim_accepts_them() -> None:
    """Perl's Mail::DKIM verifies the RSA signatures; Debian 12's knows no Ed25519."""
    zone = "".join(
        f"{key.selector}._domainkey.example.org. TXT "
        + " ".join(f'"{record_of(key)[at : at + 255]}"' for at in range(0, len(record_of(key)), 255))
        + "\n"
        for key in KEYS
    )
    message = join_message([*sign(keys=[RSA, RSA_4096]), *FIELDS], BODY)
    with DnsServer(zone) as nameserver:
        found = dkim_verifier.verify(message, nameserver)

    assert [(signature.selector, signature.result) for signature in found] == [("r1", "pass"), ("r2", "pass")]


@pytest.mark.system
@pytest.mark.parametrize("header", Canonicalization)
@pytest.mark.parametrize("body", Canonicalization)
def test_opendkim_accepts_them(header: Canonicalization, body: Canonicalization, tmp_path: Path) -> None:
    """OpenDKIM verifies RSA and Ed25519 in every canonical form, with x= and i=, and none that changed."""
    options = SigningOptions(header=header, body=body, valid_for=timedelta(days=7))
    keys = [replace(key, identity="news+a@lists.example.org") for key in KEYS]
    fields = [field for field in FIELDS if field.value[:1] == b" "]  # it mistakes a fold behind the colon
    signed = sign(fields, keys, options, now=datetime.now(UTC))
    records = {f"{key.selector}._domainkey.example.org": record_of(key) for key in KEYS}

    good = opendkim.verify(join_message([*signed, *fields], BODY), records, tmp_path)
    bad = opendkim.verify(join_message([*signed, *fields], BODY.replace(b"wor", b"for")), records, tmp_path)

    assert [(one.selector, one.result) for one in good] == [("r1", "pass"), ("r2", "pass"), ("e1", "pass")]
    assert [one.result for one in bad] == ["fail"] * 3
    assert verified_by_dkimpy([*signed, *fields]) == [True, True, True]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"x", b"\xc3\xbc", b"--"])).map(b"".join),
    st.lists(st.sampled_from([b"\r\n ", b" ", b"\t", b"y", b":"]), min_size=1).map(b"".join),
)
def test_whatever_is_signed_verifies_with_dkimpy(body: bytes, value: bytes) -> None:
    """Any body of lines and any value, folds and all, gives a signature that dkimpy accepts."""
    body += b"\r\n"
    fields = [*FIELDS[1:3], HeaderField(b"Subject", value + b"z")]

    assert verified_by_dkimpy([*sign(fields, [RSA], body=body), *fields], body) == [True]


@pytest.mark.parametrize("body", [b"", b"\0\r\n", b"\xff\xfe\r\n", b"a\rb\nc\r\n", b"no end"])
def test_awkward_bodies_are_signed(body: bytes) -> None:
    """Nothing, NUL, 8-bit, bare CR and LF and a missing last CRLF are signed as they came."""
    assert verified_by_us([*sign(body=body), *FIELDS], body) == ["pass", "pass", "pass"]


def test_the_tags_are_those_that_receivers_expect() -> None:
    """relaxed/relaxed, the key's d= and s=, the time; no l=, no x=, no i=."""
    rsa, _, ed25519 = [parse_tag_list(field.value) for field in sign()]

    assert list(rsa) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert (rsa["v"], rsa["a"], rsa["c"]) == ("1", "rsa-sha256", "relaxed/relaxed")
    assert (rsa["d"], rsa["s"], rsa["t"]) == ("example.org", "r1", str(int(NOW.timestamp())))
    assert (ed25519["a"], ed25519["s"]) == ("ed25519-sha256", "e1")


def test_what_is_signed() -> None:
    """From twice, so that none can be added; the fields of RFC 6376 5.4.1 and RFC 8058 that are there."""
    expected = "from from subject date to list-unsubscribe list-unsubscribe-post"

    assert signed_names(sign()[0]) == expected.split()


def test_a_list_of_fields_takes_the_place_of_the_usual_one() -> None:
    """Only the named fields are signed, and From, first, whether it is named or not."""
    options = SigningOptions(names=(b"x-mailer", b"subject", b"x-absent"))

    assert signed_names(sign(options=options)[0]) == ["from", "from", "x-mailer", "subject"]


@pytest.mark.parametrize("header", Canonicalization)
@pytest.mark.parametrize("body", Canonicalization)
def test_each_canonical_form_can_be_asked_for(header: Canonicalization, body: Canonicalization) -> None:
    """c= says what was done, to the header and to the body."""
    signed = sign(options=SigningOptions(header=header, body=body))

    assert {parse_tag_list(field.value)["c"] for field in signed} == {f"{header.value}/{body.value}"}
    assert verified_by_us([*signed, *FIELDS]) == ["pass", "pass", "pass"]
    respaced = verified_by_us([*signed, *FIELDS], BODY.replace(b"\tworld", b" world"))
    assert set(respaced) == {"pass" if body is Canonicalization.RELAXED else "fail"}


def test_an_expiry_stands_behind_the_time() -> None:
    """x= is t= and the time that signatures are valid for; beyond it they do not pass."""
    (signature,) = sign(keys=[RSA], options=SigningOptions(valid_for=timedelta(hours=120)))

    tags = parse_tag_list(signature.value)
    assert int(tags["x"]) - int(tags["t"]) == 120 * 3600
    verification = start_verification([signature, *FIELDS], ORG, 8)
    verification.update(BODY)
    (outcome,) = verification.finish(ZONE, NOW + timedelta(hours=122))
    assert outcome.result.result == "policy"


@pytest.mark.parametrize(
    ("identity", "written"),
    [
        ("@example.org", "@example.org"),
        ("a;b=c@mail.example.org", "a=3Bb=3Dc@mail.example.org"),
        ("gr\u00fc\u00dfe x@example.org", "gr=C3=BC=C3=9Fe=20x@example.org"),
    ],
)
def test_an_identity_is_written_as_the_rfc_wants(identity: str, written: str) -> None:
    """i= is dkim-quoted-printable (RFC 6376 section 2.11), and verifies."""
    signed = sign(keys=[replace(RSA, identity=identity)])

    assert parse_tag_list(signed[0].value)["i"] == written
    assert verified_by_us([*signed, *FIELDS]) == ["pass"]


def test_what_is_never_signed() -> None:
    """Trace fields, results and signatures are not signed, not even where an option asks for it."""
    never = [HeaderField(name, b" x") for name in sorted(NEVER_SIGNED)]
    options = SigningOptions(oversign=tuple(sorted(NEVER_SIGNED)))

    names = signed_names(sign([*never, *FIELDS], options=options)[0])

    assert not {name.encode() for name in names} & NEVER_SIGNED
    assert not set(SIGNED_NAMES) & NEVER_SIGNED


def test_what_one_signature_leaves_is_not_in_the_next() -> None:
    """Key, identity, times, names and forms are those of each signature, whatever was signed before."""
    forever = SigningOptions()
    brief = SigningOptions(oversign=(b"to",), valid_for=timedelta(hours=1), body=Canonicalization.SIMPLE)
    keys = [RSA, replace(RSA, identity="@example.org"), replace(RSA, selector=parse_domain("r3")), ED25519]
    calls = [
        (key, options, fields)
        for key in keys
        for options in (forever, brief)
        for fields in (FIELDS, FIELDS[1:3])
    ]

    found = [parse_tag_list(sign(fields, [key], options)[0].value) for key, options, fields in calls]

    for tags, (key, options, fields) in zip(found, calls, strict=True):
        assert (tags["a"], tags["s"]) == (key.algorithm.value, key.selector)
        assert ("i" in tags, "x" in tags) == (bool(key.identity), options is brief)
        assert tags["c"] == f"relaxed/{options.body.value}"
        assert ("list-unsubscribe" in tags["h"]) == (fields is FIELDS)
        assert split_list(tags["h"]).count("to") == (2 if options is brief else 1)


def test_oversigned_names_cover_what_is_absent() -> None:
    """An oversigned name stands once more than there are fields, so that none can be added."""
    signature = sign(keys=[RSA], options=SigningOptions(oversign=(b"reply-to", b"subject", b"x-own")))[0]

    names = signed_names(signature)
    assert [names.count(name) for name in ("from", "subject", "reply-to", "x-own")] == [2, 2, 1, 1]
    assert verified_by_us([signature, *FIELDS]) == ["pass"]
    for added in (b"Reply-To", b"Subject", b"X-Own", b"From"):
        assert verified_by_us([signature, HeaderField(added, b" x"), *FIELDS]) == ["fail"]


def test_repeated_fields_are_all_signed() -> None:
    """Each of several fields of a name is signed, and changing the topmost breaks the signature."""
    fields = [HeaderField(b"To", b" top"), *FIELDS]
    signature = sign(fields, [RSA])[0]

    assert signed_names(signature).count("to") == 2
    assert verified_by_us([signature, *fields]) == ["pass"]
    assert verified_by_us([signature, HeaderField(b"To", b" other"), *FIELDS]) == ["fail"]


def test_the_list_of_names_is_bounded() -> None:
    """Thousands of fields of one name do not make a field that nobody would carry."""
    signature = sign([*FIELDS, *[HeaderField(b"Cc", b" x")] * 5000], [RSA])[0]

    assert signed_names(signature).count("cc") == MAX_FIELDS_A_NAME


@pytest.mark.parametrize("fields", [MAX_FIELDS_A_NAME, MAX_FIELDS_A_NAME + 1])
def test_with_more_fields_than_are_signed_the_signature_is_right(fields: int) -> None:
    """One more of a name in h= would be the next field up, which verifiers would hash and we did not."""
    message = [*[HeaderField(b"Cc", b" x")] * fields, *FIELDS]
    signature = sign(message, [RSA], SigningOptions(oversign=(b"cc",)))[0]

    assert verified_by_us([signature, *message]) == ["pass"]


@pytest.mark.parametrize("authors", [0, 2])
def test_without_one_author_field_nothing_is_signed(authors: int) -> None:
    """No From, or several: nobody can say whose mail it is, so nobody vouches for it."""
    assert sign([*[FIELDS[1]] * authors, *FIELDS[2:]]) == ()


def test_without_keys_nothing_is_signed() -> None:
    """A domain without keys gives no field."""
    assert sign(keys=[]) == ()


@pytest.mark.parametrize("domain", ["example.org", "a-rather-long-subdomain." * 8 + "example.org"])
def test_lines_are_short(domain: str) -> None:
    """No line is longer than 78 characters unless a name is, and each further one begins with white space."""
    key = SigningKey(parse_domain(domain), parse_domain("r1"), RSA_4096.private_key)
    options = SigningOptions(oversign=SIGNED_NAMES)

    (field,) = sign(keys=[key], options=options)

    first, *others = (field.name + b":" + field.value).split(b"\r\n")
    assert all(re.match(rb"[ \t]\S", line) for line in others)
    long = [line for line in (first, *others) if len(line) > MAX_COLUMNS]
    assert all(b"d=" in line for line in long)
    assert field.value.startswith(b" v=1; ")
    assert not re.search(rb"[^\x20-\x7e\r\n]", field.value)


def test_signing_again_gives_the_same() -> None:
    """Both algorithms are deterministic: the same message at the same time has the same signature."""
    assert sign() == sign()
    assert base64.b64decode(parse_tag_list(sign()[0].value)["b"].replace(" ", ""))
