"""Makes the DKIM vectors from a table: dkimpy's canonical forms, OpenSSL, and none of the product's code.

Run it after a case was added; it rewrites every case it knows. Signatures are deterministic, so no
other case changes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from dkim.canonicalization import CanonicalizationPolicy

HERE = Path(__file__).parent
NOW = 1_795_435_200  # 2026-11-23T12:00:00Z, the runner's default
HOUR = 3600

Field = tuple[bytes, bytes]

FROM: Field = (b"From", b" Alice <alice@example.org>")
HEADER: tuple[Field, ...] = (
    (b"Received", b" from mail.example.org (mail.example.org [192.0.2.1])\r\n\tby mx.example.net; today"),
    FROM,
    (b"To", b" bob@example.net"),
    (b"Subject", b" A  test\t of\r\n\tfolds "),
    (b"Date", b" Mon, 23 Nov 2026 12:00:00 +0000"),
    (b"Message-ID", b" <1@example.org>"),
)
BODY = b"Hello  Bob,\r\n\r\nthis is\t a test. \r\n\r\n\r\n"


@cache
def private_key(name: str) -> rsa.RSAPrivateKey | Ed25519PrivateKey:
    key = serialization.load_pem_private_key((HERE / "keys" / f"{name}.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey | Ed25519PrivateKey)
    return key


def spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def p_of(name: str) -> str:
    public = private_key(name).public_key()
    raw = spki(public) if isinstance(public, rsa.RSAPublicKey) else public.public_bytes_raw()
    return base64.b64encode(raw).decode()


def txt(record: str | Sequence[str], selector: str = "s1", domain: str = "example.org") -> str:
    """A zone line; a list gives the strings as they are, a text is cut into strings of 255."""
    parts = [record[i : i + 255] for i in range(0, len(record), 255)] if isinstance(record, str) else record
    return f"{selector}._domainkey.{domain}. TXT " + " ".join(f'"{part}"' for part in parts) + "\n"


def key_line(tags: str = "v=DKIM1; k=rsa; ", key: str = "rfc6376", **place: str) -> str:
    return txt(f"{tags}p={p_of(key)}".replace(";", "\\;"), **place)


def sign(header: Sequence[Field], body: bytes, key: str = "rfc6376", **tags: str) -> Field:
    """A signature; `tags` replace or add to the usual ones, an empty one is left out, `extra` goes behind."""
    usual = {"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "example.org", "s": "s1"}
    usual |= {"t": str(NOW - 60), "h": "from:to:subject:date:from", "bh": ""} | tags
    policy = CanonicalizationPolicy.from_c_value(usual["c"].encode() or None)
    body_form = policy.canonicalize_body(body)
    length = usual.get("l", "")
    hashed = body_form[: int(length)] if length.isdigit() else body_form
    usual["bh"] = tags.get("bh") or base64.b64encode(hashlib.sha256(hashed).digest()).decode()
    extra = usual.pop("extra", "")
    text = "; ".join(f"{tag}={value}" for tag, value in usual.items() if value) + extra
    unsigned = (b"DKIM-Signature", b" " + text.encode().replace(b"; h=", b";\r\n\th=") + b"; b=")
    digest = digest_of(header, policy, [part.strip().lower() for part in usual["h"].split(":")], unsigned)
    return unsigned[0], unsigned[1] + folded(base64.b64encode(signature_of(digest, key)))


def digest_of(
    header: Sequence[Field], policy: CanonicalizationPolicy, names: Sequence[str], unsigned: Field
) -> bytes:
    hasher = hashlib.sha256()
    # dkimpy keeps the CRLF in its values, and finds a name without the space that RFC 5322 4.5.8 allows
    lines = policy.canonicalize_headers([(n.rstrip(), v + b"\r\n") for n, v in header])
    if policy.header_algorithm.name == b"simple":
        lines = [(n, v + b"\r\n") for n, v in header]
    for selected_name, value in dkim.select_headers(lines, [name.encode() for name in names]):
        hasher.update(selected_name + b":" + value)
    (line,) = policy.canonicalize_headers([(unsigned[0], unsigned[1] + b"\r\n")])
    hasher.update(line[0] + b":" + line[1].rstrip(b"\r\n"))
    return hasher.digest()


def signature_of(digest: bytes, key: str) -> bytes:
    private = private_key(key)
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    return private.sign(digest)


def folded(octets: bytes) -> bytes:
    return b"".join(b"\r\n\t" + octets[i : i + 70] for i in range(0, len(octets), 70))


@dataclass
class Case:
    """`why` begins with the section. `signatures` are made of `header` and `body`, then `sent_*` are sent."""

    why: str
    expected: list[str]
    zone: str = field(default_factory=key_line)
    signatures: list[Mapping[str, str]] = field(default_factory=lambda: [{}])
    header: Sequence[Field] = HEADER
    body: bytes = BODY
    sent_header: Sequence[Field] | None = None
    sent_body: bytes | None = None
    directives: list[str] = field(default_factory=list)
    replace: tuple[bytes, bytes] = (b"", b"")  # in the finished signatures
    selector: str = "s1"

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        signed = [sign(self.header, self.body, **tags) for tags in self.signatures]
        signed = [
            (name, value.replace(*self.replace) if self.replace[0] else value) for name, value in signed
        ]
        header = [*signed, *(self.header if self.sent_header is None else self.sent_header)]
        body = self.body if self.sent_body is None else self.sent_body
        message = b"".join(name + b":" + value + b"\r\n" for name, value in header) + b"\r\n" + body
        (folder / "message.eml").write_bytes(message)
        (folder / "zone").write_text(self.zone)
        lines = [f"# {self.why}", *self.directives, *self.expected]
        (folder / "expected").write_text("\n".join(lines) + "\n")


PASS = 'pass counts header.d=example.org "verifies"'


def bad(word: str, reason: str) -> list[str]:
    return [f'{word} - header.d=example.org "{reason}"']


def huge_rsa(bits: int) -> str:
    return base64.b64encode(spki(rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key())).decode()


LONG_H = ":".join(["from"] * 1001)

CASES: dict[str, Case] = {
    # canonical forms
    "relaxed": Case("6376 3.4.2, 3.4.4: a plain signature", [PASS]),
    "relaxed-respaced": Case(
        "6376 3.4.2: white space and folds may change on the way",
        [PASS],
        sent_header=(
            *HEADER[:1],
            (b"FROM", b"\r\n\tAlice \t<alice@example.org>"),
            (b"to", b"bob@example.net"),
            (b"SUBJECT", b"\r\n A test of folds"),
            *HEADER[4:],
        ),
        sent_body=b"Hello Bob, \r\n\t\r\nthis is a\t \ttest.\r\n",
    ),
    "relaxed-folded-after-colon": Case(
        "6376 3.4.2: a value folded straight after the colon",
        [PASS],
        header=(*HEADER[:3], (b"Subject", b"\r\n folded"), *HEADER[4:]),
    ),
    "relaxed-space-before-colon": Case(
        "6376 3.4.2: white space before the colon goes",
        [PASS],
        header=(*HEADER[:3], (b"Subject ", b" x"), *HEADER[4:]),
        sent_header=(*HEADER[:3], (b"Subject\t ", b" x"), *HEADER[4:]),
    ),
    "simple": Case("6376 3.4.1, 3.4.3: exact octets", [PASS], signatures=[{"c": "simple/simple"}]),
    "simple-default": Case("6376 3.5: c= absent is simple/simple", [PASS], signatures=[{"c": ""}]),
    "simple-leading-space": Case(
        "6376 3.4.1: the space after the colon is part of a simple field",
        bad("fail", "header fields were changed"),
        signatures=[{"c": "simple/simple"}],
        sent_header=(*HEADER[:2], (b"To", b"bob@example.net"), *HEADER[3:]),
    ),
    "relaxed-simple-body": Case(
        "6376 3.4.3: a space more in a simple body",
        bad("fail", "body was changed"),
        signatures=[{"c": "relaxed"}],
        sent_body=BODY.replace(b"Hello", b"Hello "),
    ),
    "canonicalization-unknown": Case(
        "6376 3.5: an unknown c=",
        bad("neutral", "c="),
        replace=(b"relaxed/relaxed", b"relaxed/nowsp"),
    ),
    "body-empty-relaxed": Case("6376 3.4.4: an empty body is nothing", [PASS], body=b""),
    "body-empty-simple": Case(
        "6376 3.4.3: an empty body is one CRLF", [PASS], body=b"", signatures=[{"c": "simple/simple"}]
    ),
    "body-blank-lines-only": Case(
        "6376 3.4.4: a body of empty lines is an empty one", [PASS], body=b"", sent_body=b"\r\n \r\n\t\r\n"
    ),
    "body-trailing-lines": Case(
        "6376 3.4.3: empty lines at the end do not count",
        [PASS],
        signatures=[{"c": "relaxed/simple"}],
        sent_body=BODY + b"\r\n" * 100,
    ),
    "body-no-final-crlf": Case(
        "6376 3.4.3: a missing last CRLF is added", [PASS], body=b"one\r\ntwo", sent_body=b"one\r\ntwo\r\n"
    ),
    "body-changed": Case(
        "6376 6.1.3: another body", bad("fail", "body was changed"), sent_body=b"Pay me.\r\n"
    ),
    "header-changed": Case(
        "6376 6.1.3: another subject",
        bad("fail", "header fields were changed"),
        sent_header=(*HEADER[:3], (b"Subject", b" Pay me"), *HEADER[4:]),
    ),
    "header-bare-cr": Case(
        "5322 3.2.2: a CR that ends no line is no fold, so that it cannot be put into a signed field",
        bad("fail", "header fields were changed"),
        sent_header=(*HEADER[:3], (b"Subject", b" A  te\rst\t of\r\n\tfolds "), *HEADER[4:]),
    ),
    "header-bare-cr-before-space": Case(
        "5322 3.2.2: a CR before white space is no fold either",
        bad("fail", "header fields were changed"),
        sent_header=(*HEADER[:3], (b"Subject", b" A  test\r\t of\r\n\tfolds "), *HEADER[4:]),
    ),
    "header-bare-cr-at-end": Case(
        "5322 3.2.2: a CR at the end of a field is a part of it",
        bad("fail", "header fields were changed"),
        sent_header=(*HEADER[:3], (b"Subject", b" A  test\t of\r\n\tfolds \r"), *HEADER[4:]),
    ),
    "header-bare-cr-in-from": Case(
        "5322 3.2.2: a CR in the author's address is no fold",
        bad("fail", "header fields were changed"),
        sent_header=(HEADER[0], (b"From", b" Alice <al\rice@example.org>"), *HEADER[2:]),
    ),
    "header-bare-lf": Case(
        "5322 3.2.2: an LF without white space behind it is no fold",
        bad("fail", "header fields were changed"),
        sent_header=(*HEADER[:3], (b"Subject", b" A  te\nst\t of\r\n\tfolds "), *HEADER[4:]),
    ),
    "signature-bare-cr": Case(
        "6376 3.2: a CR in the tag list is no folding white space",
        ['permerror - "control character"'],
        replace=(b"\th=", b"\t\rh="),
    ),
    "header-unsigned-added": Case(
        "6376 3.5: a field that h= does not name may come",
        [PASS],
        sent_header=((b"X-Spam", b" no"), *HEADER),
    ),
    # repeated fields
    "repeated-bottom-up": Case(
        "6376 5.4.2: of several fields the lowest is signed first",
        [PASS],
        signatures=[{"h": "from:received"}],
        sent_header=((b"Received", b" from forwarder.example.com"), *HEADER),
    ),
    "repeated-replaced": Case(
        "6376 5.4.2: a field added below takes the place of the signed one",
        bad("fail", "header fields were changed"),
        signatures=[{"h": "from:received"}],
        sent_header=(*HEADER, (b"Received", b" from forwarder.example.com")),
    ),
    "oversigned-name-absent": Case(
        "6376 5.4: a name beyond the last field is nothing",
        [PASS],
        signatures=[{"h": "from:from:from:to:reply-to:reply-to"}],
    ),
    "oversigned-from-added": Case(
        "6376 8.15: a second From breaks an oversigned signature",
        bad("fail", "header fields were changed"),
        sent_header=((b"From", b" Mallory <ceo@example.org>"), *HEADER),
    ),
    "second-from": Case(
        "6376 8.15: a second From that is not signed might be the one that is shown",
        bad("policy", "From field that is not signed"),
        signatures=[{"h": "from:to:subject"}],
        sent_header=((b"From", b" Mallory <ceo@example.org>"), *HEADER),
    ),
    # the signature's own tags
    "from-not-signed": Case(
        "6376 6.1.1: h= must name From", bad("permerror", "From is not signed"), signatures=[{"h": "to:date"}]
    ),
    "version-2": Case("6376 6.1.1: v= must be 1", bad("permerror", "v="), signatures=[{"v": "2"}]),
    "version-missing": Case("6376 6.1.1: v= must be there", bad("permerror", "v="), signatures=[{"v": ""}]),
    "domain-missing": Case(
        "6376 6.1.1: d= must be there", ['permerror - header.s=s1 "d="'], signatures=[{"d": ""}]
    ),
    "names-missing": Case(
        "6376 6.1.1: h= must be there",
        bad("permerror", "h="),
        replace=(b"\th=from:to:subject:date:from; ", b"\t"),
    ),
    "names-too-many": Case("bound: names in h=", bad("permerror", "too many"), signatures=[{"h": LONG_H}]),
    "tag-unknown": Case(
        "6376 3.2: unknown tags are ignored", [PASS], signatures=[{"extra": "; xyz=1; R2_d="}]
    ),
    "tag-twice": Case(
        "6376 3.2: a tag twice makes the whole list invalid",
        ['permerror - "twice"'],
        signatures=[{"extra": "; d=example.com"}],
    ),
    "tag-bad-name": Case(
        "6376 3.2: a tag name is a word", ['permerror - "name"'], signatures=[{"extra": "; a b=1"}]
    ),
    "not-a-tag-list": Case(
        "8601 2.7.1: a malformed signature is reported", ['permerror - "tag list"'], replace=(b"v=1", b"v")
    ),
    "b-not-base64": Case("6376 3.5: b=", bad("permerror", "b="), replace=(b"; b=", b"; b=*")),
    "bh-wrong-length": Case(
        "6376 3.7: bh= is a SHA-256", bad("permerror", "bh="), signatures=[{"bh": "AAAA"}]
    ),
    "b-tag-in-another": Case(
        "6376 3.7: only the b= tag is emptied, not what looks like it in another",
        [PASS],
        signatures=[{"z": "Subject: b=abc| b=def"}],
    ),
    "identity-outside": Case(
        "6376 6.1.1: i= must be within d=", bad("permerror", "i="), signatures=[{"i": "a@badexample.org"}]
    ),
    "identity-subdomain": Case(
        "6376 3.5: i= may be below d=",
        ['pass counts header.i=alice@mail.example.org "verifies"'],
        signatures=[{"i": "alice@mail.example.org"}],
    ),
    "identity-encoded": Case(
        "6376 2.11: i= is quoted-printable", [PASS], signatures=[{"i": "=61lice@=65xample.org"}]
    ),
    "identity-no-at": Case(
        "6376 3.5: i= holds an @", bad("permerror", "i="), signatures=[{"i": "example.org"}]
    ),
    "query-unknown": Case("6376 3.5: another q=", bad("neutral", "q="), signatures=[{"q": "http/get"}]),
    "query-several": Case("6376 3.5: q= is a list", [PASS], signatures=[{"q": "http/get : dns/txt"}]),
    "algorithm-unknown": Case(
        "6376 3.5: another a=", bad("neutral", "a="), replace=(b"rsa-sha256", b"rsa-sha512")
    ),
    # time
    "expired": Case(
        "6376 3.5: x= is past",
        bad("policy", "expired"),
        signatures=[{"t": str(NOW - 9 * HOUR), "x": str(NOW - 2 * HOUR)}],
    ),
    "expired-within-skew": Case(
        "6376 3.5: clocks differ", [PASS], signatures=[{"t": str(NOW - 9 * HOUR), "x": str(NOW - 60)}]
    ),
    "expires-without-time": Case(
        "6376 3.5: t= may be absent", [PASS], signatures=[{"t": "", "x": str(NOW + 60)}]
    ),
    "expires-before-made": Case(
        "6376 3.5: x= must be greater than t=", bad("permerror", "x="), signatures=[{"t": "9", "x": "9"}]
    ),
    "made-in-future": Case(
        "6376 3.5: t= is to come", bad("policy", "future"), signatures=[{"t": str(NOW + 2 * HOUR)}]
    ),
    "made-within-skew": Case("6376 3.5: clocks differ", [PASS], signatures=[{"t": str(NOW + 1800)}]),
    "time-not-a-number": Case("6376 3.5: t= is digits", bad("permerror", "t="), signatures=[{"t": "-1"}]),
    "time-thirteen-digits": Case(
        "6376 3.5: t= has twelve digits at most", bad("permerror", "t="), signatures=[{"t": "1" * 13}]
    ),
    # l=
    "length-whole-body": Case(
        "6376 3.5: l= is the whole body", [PASS], signatures=[{"l": "34"}], body=b"x" * 32 + b"\r\n"
    ),
    "length-shorter": Case(
        "6376 8.2: text was added below the signed part",
        bad("policy", "only 34 of the body's 40"),
        signatures=[{"l": "34"}],
        body=b"x" * 32 + b"\r\n",
        sent_body=b"x" * 32 + b"\r\nSPAM\r\n",
    ),
    "length-zero": Case(
        "6376 8.2: no part of the body is signed", bad("policy", "only 0 of"), signatures=[{"l": "0"}]
    ),
    "length-larger": Case("6376 3.5: l= beyond the body", bad("fail", "l="), signatures=[{"l": "9999"}]),
    "length-76-digits": Case("6376 3.5: l= may be huge", bad("fail", "l="), signatures=[{"l": "9" * 76}]),
    "length-77-digits": Case(
        "6376 3.5: l= has 76 digits", bad("permerror", "l="), replace=(b"; t=", b"; l=" + b"9" * 77 + b"; t=")
    ),
    # the key record
    "key-minimal": Case("6376 3.6.1: p= is enough", [PASS], zone=key_line("")),
    "key-rfc-form": Case(
        "6376 3.6.1: the key as a bare RSAPublicKey",
        [PASS],
        zone=txt(
            "p="
            + base64.b64encode(
                private_key("rfc6376")
                .public_key()
                .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
            ).decode()
        ),
    ),
    "key-spaces": Case(
        "6376 3.6.1: folding white space anywhere",
        [PASS],
        zone=txt(f" v = DKIM1 \\; p = {p_of('rfc6376')[:50]} \t {p_of('rfc6376')[50:]} \\; "),
    ),
    "key-joined-strings": Case(
        "6376 3.6.2.2: strings are joined without a space",
        [PASS],
        zone=txt(["v=DK", "IM1\\; p=", p_of("rfc6376")[:99], p_of("rfc6376")[99:]]),
    ),
    "key-revoked": Case("6376 3.6.1: p= empty", bad("permerror", "revoked"), zone=txt("v=DKIM1\\; p=")),
    "key-without-p": Case(
        "6376 3.6.1: p= must be there", bad("permerror", "p="), zone=txt("v=DKIM1\\; k=rsa")
    ),
    "key-not-base64": Case("6376 3.6.1: p= is base64", bad("permerror", "base64"), zone=txt("p=!!")),
    "key-garbage": Case("6376 6.1.2: p= is no key", bad("permerror", "not an RSA key"), zone=txt("p=AAAA")),
    "key-version-other": Case(
        "6376 3.6.1: v= is DKIM1", bad("permerror", "DKIM1"), zone=key_line("v=DKIM2; ")
    ),
    "key-version-not-first": Case(
        "6376 3.6.1: v= comes first", bad("permerror", "DKIM1"), zone=key_line("k=rsa; v=DKIM1; ")
    ),
    "key-type-other": Case(
        "6376 3.6.1: k= must fit a=", bad("permerror", "k="), zone=key_line("k=ed25519; ")
    ),
    "key-type-unknown": Case("6376 3.6.1: unknown k=", bad("permerror", "k="), zone=key_line("k=x25519; ")),
    "key-hash-fits": Case("6376 3.6.1: h=", [PASS], zone=key_line("h=sha1 : sha256; ")),
    "key-hash-other": Case(
        "6376 3.6.1: h= must allow the hash", bad("permerror", "h="), zone=key_line("h=sha1; ")
    ),
    "key-service-email": Case("6376 3.6.1: s=", [PASS], zone=key_line("s=xmpp:email; ")),
    "key-service-other": Case(
        "6376 3.6.1: s= is not for mail", bad("permerror", "s="), zone=key_line("s=tlsrpt; ")
    ),
    "key-strict-same": Case(
        "6376 3.6.1: t=s with i= in d= itself",
        [PASS],
        zone=key_line("t=s; "),
        signatures=[{"i": "a@example.org"}],
    ),
    "key-strict-subdomain": Case(
        "6376 3.6.1: t=s forbids subdomains in i=",
        bad("permerror", "t=s"),
        zone=key_line("t=s; "),
        signatures=[{"i": "a@mail.example.org"}],
    ),
    "key-testing": Case(
        "6376 3.6.1: t=y, and it verifies",
        ['pass counts header.d=example.org "t=y"'],
        zone=key_line("t=y:s; "),
    ),
    "key-testing-failing": Case(
        "6376 3.6.1: t=y, and it does not verify: as if unsigned",
        bad("neutral", "t=y"),
        zone=key_line("t=y; "),
        sent_body=b"changed\r\n",
    ),
    "key-several": Case(
        "6376 3.6.2.2: several records: the one that fits",
        [PASS],
        zone=txt("v=spf1 -all") + key_line() + key_line("v=DKIM1; k=ed25519; ", key="rfc8463"),
    ),
    "key-none": Case("6376 6.1.2: NXDOMAIN", bad("permerror", "no key is published"), zone=""),
    "key-no-data": Case(
        "6376 6.1.2: the name has no TXT",
        bad("permerror", "no key is published"),
        zone="s1._domainkey.example.org. A 192.0.2.1\n",
    ),
    "key-unknowable": Case(
        "6376 6.1.2: DNS fails",
        bad("temperror", "looked up"),
        zone="; failing s1._domainkey.example.org\n" + key_line(),
    ),
    # algorithms
    "rsa-sha1": Case(
        "8301 3.1: rsa-sha1 is refused", bad("policy", "rsa-sha1"), signatures=[{"a": "rsa-sha1"}]
    ),
    "rsa-1016": Case(
        "8301 3.2: under 1024 bits is refused",
        bad("policy", "1016 bits"),
        zone=key_line(key="rsa1016"),
        signatures=[{"key": "rsa1016"}],
    ),
    "rsa-4096": Case(
        "8301 3.2: 4096 bits must be handled",
        [PASS],
        zone=key_line(key="rsa4096"),
        signatures=[{"key": "rsa4096"}],
    ),
    "rsa-16384": Case(
        "bound: length of an RSA key", bad("policy", "16384 bits"), zone=txt("k=rsa\\; p=" + huge_rsa(16384))
    ),
    "ed25519": Case(
        "8463 3: Ed25519 signs the SHA-256 digest",
        ['pass counts header.a=ed25519-sha256 "verifies"'],
        zone=key_line("v=DKIM1; k=ed25519; ", key="rfc8463"),
        signatures=[{"a": "ed25519-sha256", "key": "rfc8463"}],
    ),
    "ed25519-changed": Case(
        "8463 3: and notices a change",
        bad("fail", "header fields were changed"),
        zone=key_line("v=DKIM1; k=ed25519; ", key="rfc8463"),
        signatures=[{"a": "ed25519-sha256", "key": "rfc8463"}],
        sent_header=HEADER[:2],
    ),
    "ed25519-key-as-spki": Case(
        "8463 4.2: the key is 32 octets, not ASN.1",
        bad("permerror", "32 octets"),
        zone=txt("k=ed25519\\; p=" + base64.b64encode(bytes(44)).decode()),
        signatures=[{"a": "ed25519-sha256", "key": "rfc8463"}],
    ),
    "dual-rsa-first": Case(
        "8463 3: both algorithms, RSA above",
        ['pass counts header.a=rsa-sha256 "verifies"', 'pass counts header.a=ed25519-sha256 "verifies"'],
        zone=key_line() + key_line("v=DKIM1; k=ed25519; ", key="rfc8463", selector="e1"),
        signatures=[{}, {"a": "ed25519-sha256", "key": "rfc8463", "s": "e1"}],
    ),
    "dual-ed25519-first": Case(
        "8463 3: both algorithms, Ed25519 above",
        ['pass counts header.a=ed25519-sha256 "verifies"', 'pass counts header.a=rsa-sha256 "verifies"'],
        zone=key_line() + key_line("v=DKIM1; k=ed25519; ", key="rfc8463", selector="e1"),
        signatures=[{"a": "ed25519-sha256", "key": "rfc8463", "s": "e1"}, {}],
    ),
    # bounds and hostile names
    "several-author-first": Case(
        "bound: signatures; the author's is among those verified, results in header order",
        [
            'pass counts header.d=example.com "verifies"',
            'pass counts header.d=example.org "verifies"',
            'policy - "2 more"',
        ],
        zone=key_line() + key_line(domain="example.com"),
        signatures=[{"d": "example.com"}, {"d": "example.com"}, {"d": "example.com"}, {}],
        directives=["author example.org", "max 2"],
    ),
    "none": Case("8601 2.7.1: no signature, no result", [], signatures=[]),
    "name-case": Case("5322 2.2: the field's name has no case", [PASS], signatures=[{"name": "x"}]),
    "domain-nul": Case(
        "espoofer A3: a NUL in d= never reaches DNS",
        ['permerror - "control"'],
        replace=(b"d=example.org", b"d=example.org\0.example.com"),
    ),
    "selector-nul": Case("espoofer A3: nor in s=", ['permerror - "control"'], replace=(b"s=s1", b"s=s1\0")),
    "selector-not-ldh": Case(
        "6376 3.5: s= is a domain name", bad("permerror", "d= and s="), replace=(b"s=s1", b"s=s1(x")
    ),
    "domain-one-label": Case(
        "6376 3.5: d= has a dot", ['permerror - header.d=org "domain name"'], signatures=[{"d": "org"}]
    ),
    "domain-final-dot": Case(
        "6376 3.5: d= has no final dot", bad("permerror", "domain name"), signatures=[{"d": "example.org."}]
    ),
    "domain-upper-case": Case(
        "6376 3.5: d= has no case", [PASS], signatures=[{"d": "EXAMPLE.org", "i": "@Example.ORG"}]
    ),
    # internationalized mail
    "utf8-header": Case(
        "6532: octets are signed as they are",
        [PASS],
        header=(*HEADER[:3], (b"Subject", " Grüße \u2713".encode()), *HEADER[4:]),
    ),
    "latin1-header": Case(
        "octets that are no UTF-8 are signed as they are",
        [PASS],
        header=(*HEADER[:3], (b"Subject", b" Gr\xfc\xdfe \xff"), *HEADER[4:]),
    ),
    "u-labels": Case(
        "8616 4: U-labels in d=, s= and i= are A-labels in DNS and results",
        ['pass counts header.d=xn--mller-kva.example header.s=xn--stra-8qa "verifies"'],
        zone=key_line(selector="xn--stra-8qa", domain="xn--mller-kva.example"),
        signatures=[{"d": "müller.example", "s": "straö", "i": "@müller.example"}],
    ),
}


def main() -> None:
    """Write every case."""
    CASES["name-case"].signatures = [{}]
    for name, case in CASES.items():
        case.write(HERE / name)
    text = (HERE / "name-case/message.eml").read_bytes()
    (HERE / "name-case/message.eml").write_bytes(text.replace(b"DKIM-Signature:", b"dkim-SIGNATURE:", 1))


if __name__ == "__main__":
    main()
