"""Makes the ARC vectors from a table: dkimpy's canonical forms, OpenSSL, and none of the product's code.

Run it from the top of the tree after a case was added; it rewrites every case. Signatures are
deterministic, so no other case changes:

    python -m tests.vectors.arc.generate
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dkim.canonicalization import CanonicalizationPolicy

from tests.vectors.dkim.generate import (
    BODY,
    FROM,
    HEADER,
    HOUR,
    NOW,
    Field,
    digest_of,
    folded,
    key_line,
    signature_of,
)

HERE = Path(__file__).parent
RELAXED = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")
AAR, AMS, SEAL = b"ARC-Authentication-Results", b"ARC-Message-Signature", b"ARC-Seal"
DOMAINS = tuple(f"hop{instance}.example.net" for instance in range(60))
ZONE = "".join(key_line(domain=domain) for domain in DOMAINS[1:4])


@dataclass
class Hop:
    """One sealer: what its tags replace or add (an empty one is left out), what it does to the message."""

    ams: Mapping[str, str] = field(default_factory=dict)
    seal: Mapping[str, str] = field(default_factory=dict)
    aar: bytes | None = None
    key: str = "rfc6376"
    footer: bytes = b""  # added to the body before sealing
    before: Sequence[Field] = ()  # fields added to the header before sealing
    alone: bool = False  # its seal covers its own set alone (5.1.2)


Sets = list[tuple[Field, Field, Field]]


def text_of(tags: Mapping[str, str]) -> bytes:
    return "; ".join(f"{tag}={value}" for tag, value in tags.items() if value).encode()


def signed(unsigned: Field, digest: bytes, key: str, replaced: str | None) -> Field:
    value = base64.b64encode(signature_of(digest, key)) if replaced is None else replaced.encode()
    return unsigned[0], unsigned[1] + folded(value)


def message_signature(hop: Hop, number: int, header: Sequence[Field], body: bytes) -> Field:
    tags = {"i": str(number), "a": "rsa-sha256", "c": "relaxed/relaxed", "d": DOMAINS[number], "s": "s1"}
    tags |= {"t": str(NOW - 60), "h": "from:to:subject:date:from", "bh": ""} | dict(hop.ams)
    replaced = tags.pop("b", None)
    policy = CanonicalizationPolicy.from_c_value(tags["c"].encode() or None)
    body_form = policy.canonicalize_body(body)
    hashed = body_form[: int(tags["l"])] if "l" in tags else body_form
    tags["bh"] = tags["bh"] or base64.b64encode(hashlib.sha256(hashed).digest()).decode()
    unsigned = (AMS, b" " + text_of(tags).replace(b"; h=", b";\r\n\th=") + b"; b=")
    names = [name.strip().lower() for name in tags["h"].split(":")]
    return signed(unsigned, digest_of(header, policy, names, unsigned), hop.key, replaced)


def seal(hop: Hop, number: int, scope: Sequence[Field]) -> Field:
    status = "none" if number == 1 else "pass"
    tags = {"i": str(number), "a": "rsa-sha256", "cv": status, "d": DOMAINS[number], "s": "s1"}
    tags |= {"t": str(NOW - 60)} | dict(hop.seal)
    replaced = tags.pop("b", None)
    unsigned = (SEAL, b" " + text_of(tags) + b"; b=")
    hasher = hashlib.sha256()
    for line in RELAXED.canonicalize_headers([(n, v + b"\r\n") for n, v in scope]):
        hasher.update(line[0] + b":" + line[1])
    (own,) = RELAXED.canonicalize_headers([(unsigned[0], unsigned[1] + b"\r\n")])
    hasher.update(own[0] + b":" + own[1].rstrip(b"\r\n"))
    return signed(unsigned, hasher.digest(), hop.key, replaced)


def add_set(hop: Hop, number: int, sets: Sets, header: Sequence[Field], body: bytes) -> None:
    """The hop's set, behind the older ones of `sets`."""
    results = hop.aar or f" i={number}; {DOMAINS[number]}; spf=pass smtp.mailfrom=alice@example.org".encode()
    aar, above = (AAR, results), [part for arc_set in reversed(sets) for part in reversed(arc_set)]
    ams = message_signature(hop, number, [aar, *above, *header], body)
    scope = [one for older in ([] if hop.alone else sets) for one in older]
    sets.append((aar, ams, seal(hop, number, [*scope, aar, ams])))


@dataclass
class Case:
    """`why` begins with the section. The hops seal one after the other; then `edit` changes what is sent."""

    why: str
    expected: str
    hops: Sequence[Hop] = (Hop(),)
    edit: Callable[[list[Field]], list[Field]] = list
    tail: bytes = b""
    zone: str = ZONE
    header: Sequence[Field] = HEADER
    directives: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        fields, body = self.message()
        octets = b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n" + body
        (folder / "message.eml").write_bytes(octets)
        (folder / "zone").write_text(self.zone)
        (folder / "expected").write_text("\n".join([f"# {self.why}", *self.directives, self.expected]) + "\n")

    def message(self) -> tuple[list[Field], bytes]:
        header, body, sets = list(self.header), BODY, Sets()
        for number, hop in enumerate(self.hops, start=1):
            header, body = [*hop.before, *header], body.rstrip(b"\r\n") + b"\r\n" + hop.footer
            add_set(hop, number, sets, header, body)
        arc = [part for arc_set in reversed(sets) for part in reversed(arc_set)]
        return self.edit([*arc, *header]), body + self.tail


def passes(sealers: int, oldest: int = 0) -> str:
    names = ",".join(reversed(DOMAINS[1 : sealers + 1]))
    return f'pass oldest-pass={oldest} sealers={names} highest={sealers} ""'


def fails(reason: str, highest: int = 1, word: str = "fail", state: str = "") -> str:
    return f'{word} highest={highest}{state} "{reason}"'


def is_of(one: Field, name: bytes, instance: int) -> bool:
    return one[0] == name and one[1].lstrip().startswith(b"i=%d;" % instance)


def without(instance: int, *names: bytes) -> Callable[[list[Field]], list[Field]]:
    wanted = names or (AAR, AMS, SEAL)

    def edit(fields: list[Field]) -> list[Field]:
        return [one for one in fields if not any(is_of(one, name, instance) for name in wanted)]

    return edit


def twice(name: bytes, instance: int) -> Callable[[list[Field]], list[Field]]:
    def edit(fields: list[Field]) -> list[Field]:
        return [copy for one in fields for copy in ([one, one] if is_of(one, name, instance) else [one])]

    return edit


def changed(name: bytes, old: bytes, new: bytes, instance: int = 0) -> Callable[[list[Field]], list[Field]]:
    def edit(fields: list[Field]) -> list[Field]:
        return [
            (n, v.replace(old, new, 1))
            if n == name and (not instance or is_of((n, v), n, instance))
            else (n, v)
            for n, v in fields
        ]

    return edit


def on_top(*added: Field) -> Callable[[list[Field]], list[Field]]:
    return partial(_on_top, added)


def _on_top(added: Sequence[Field], fields: list[Field]) -> list[Field]:
    return [*added, *fields]


def renamed(fields: list[Field]) -> list[Field]:
    return [(name.swapcase() if name.startswith(b"ARC-") else name, value) for name, value in fields]


def turned(fields: list[Field]) -> list[Field]:
    """The ARC fields below the others, the oldest on top."""
    arc = [one for one in fields if one[0].startswith(b"ARC-")]
    return [*[one for one in fields if one not in arc], *reversed(arc)]


def rezoned(instance: int, line: str) -> str:
    return "".join(line if number == instance else key_line(domain=DOMAINS[number]) for number in (1, 2, 3))


TWO, THREE = (Hop(), Hop()), (Hop(), Hop(), Hop())
FOOTER = Hop(footer=b"-- \r\nThe list\r\n")
FAILING = "; failing s1._domainkey.hop{}.example.net\n"
NO_INSTANCE = "its instance (i=) is no number from 1 to 50"


def ams(**tags: str) -> tuple[Hop, ...]:
    return (Hop(ams=tags),)


def sealed(**tags: str) -> tuple[Hop, ...]:
    return (Hop(seal=tags),)


CASES = {
    # structure, 4.2.1 and 5.2 steps 1 to 3
    "no-chain": Case("8617 5.2 step 1: no set is none", 'none highest=0 ""', ()),
    "one-set": Case("8617 5.2: a chain of one set", passes(1)),
    "two-sets": Case("8617 5.2: a chain of two sets", passes(2), TWO),
    "three-sets": Case("8617 5.2: a chain of three sets", passes(3), THREE),
    "fifty-sets": Case(
        "8617 4.2.1: fifty sets are a chain",
        passes(50),
        [Hop()] * 50,
        zone="".join(key_line(domain=domain) for domain in DOMAINS[1:51]),
    ),
    "fifty-one-sets": Case(
        "8617 4.2.1: more than fifty are none",
        fails("there are more than 50 ARC sets", 50),
        [Hop()] * 51,
    ),
    "instance-51": Case(
        "8617 4.2.1: an instance is 50 at most",
        fails("there are more than 50 ARC sets", 51),
        edit=on_top((SEAL, b" i=51; cv=pass")),
    ),
    "gap": Case("8617 5.2 step 3: no gaps", fails("set 2 has no ARC", 3), THREE, without(2)),
    "begins-at-two": Case("8617 5.2 step 3: from 1 on", fails("set 1 has no ARC", 2), TWO, without(1)),
    "no-results": Case(
        "8617 5.2 step 3: each set has its results",
        fails("set 1 has no ARC-Authentication-Results", 2),
        TWO,
        without(1, AAR),
    ),
    "no-message-signature": Case(
        "8617 5.2 step 3: each set has its message signature",
        fails("set 2 has no ARC-Message-Signature", 2),
        TWO,
        without(2, AMS),
    ),
    "no-seal": Case(
        "8617 5.2 step 3: each set has its seal", fails("set 1 has no ARC-Seal"), edit=without(1, SEAL)
    ),
    "two-results": Case(
        "8617 5.2 step 3: one of each field",
        fails("set 1 has more than one ARC-Authentication-Results"),
        edit=twice(AAR, 1),
    ),
    "two-message-signatures": Case(
        "8617 5.2 step 3: one of each field",
        fails("set 1 has more than one ARC-Message-Signature", 2),
        TWO,
        twice(AMS, 1),
    ),
    "two-seals": Case(
        "8617 5.2 step 3: one of each field",
        fails("set 2 has more than one ARC-Seal", 2),
        TWO,
        twice(SEAL, 2),
    ),
    "instance-twice-in-other-digits": Case(
        "8617 4.2.1: 01 is 1",
        fails("set 1 has more than one ARC-Seal"),
        edit=on_top((SEAL, b" i=01; cv=none")),
    ),
    "instance-zero": Case(
        "8617 4.2.1: instances begin at 1", fails(NO_INSTANCE), edit=on_top((AAR, b" i=0; example.net; none"))
    ),
    "instance-missing": Case(
        "8617 4.2.1: each field has one", fails(NO_INSTANCE), edit=on_top((AMS, b" a=b"))
    ),
    "instance-no-number": Case(
        "8617 4.2.1: it is a number", fails(NO_INSTANCE), edit=on_top((SEAL, b" i=+2; cv=pass"))
    ),
    "instance-not-first-in-results": Case(
        "8617 4.1.1: the instance opens the results",
        fails(NO_INSTANCE, 0),
        [Hop(aar=b" hop1.example.net; i=1; spf=pass", ams={"i": "0"}, seal={"i": "0"})],
    ),
    "results-only": Case(
        "8617 5.2 step 3: stray results are no chain",
        fails("set 1 has no ARC-M"),
        (),
        on_top((AAR, b" i=1; x; none")),
    ),
    "instance-among-comments": Case(
        "8617 4.1.1: CFWS may stand around it",
        passes(1),
        [Hop(aar=b"\r\n\t(one) i = (this) 1 ; hop1.example.net; none")],
    ),
    "not-a-tag-list": Case(
        "8617 4.1.3: a seal is a tag list",
        fails("ARC-Seal: not a tag list"),
        edit=on_top((SEAL, b" garbage")),
    ),
    "any-order": Case("8617 5.2: fields are found wherever they stand", passes(3), THREE, turned),
    "name-case": Case("5322: names have no case", passes(2), TWO, renamed),
    # cv=
    "cv-first-pass": Case(
        "8617 5.2 step 3: cv of the first is none", fails("ARC-Seal 1 says cv=pass"), sealed(cv="pass")
    ),
    "cv-second-none": Case(
        "8617 5.2 step 3: cv of later ones is pass",
        fails("ARC-Seal 2 says cv=none", 2),
        (Hop(), Hop(seal={"cv": "none"})),
    ),
    "cv-newest-fail": Case(
        "8617 5.2 step 2: a chain that was found invalid stays so",
        fails("cv=fail", 2, state=" ended"),
        (Hop(), Hop(seal={"cv": "fail"}, alone=True)),
    ),
    "cv-only-fail": Case("8617 5.2 step 2", fails("cv=fail", state=" ended"), sealed(cv="fail")),
    "cv-newest-fail-in-ruins": Case(
        "8617 5.2 step 2: whatever else is wrong",
        fails("cv=fail", 3, state=" ended"),
        (Hop(), Hop(), Hop(seal={"cv": "FAIL"}, alone=True)),
        without(2),
    ),
    "cv-older-fail": Case(
        "8617 5.2 step 3: nobody goes on after cv=fail",
        fails("ARC-Seal 2 says cv=fail", 3),
        (Hop(), Hop(seal={"cv": "fail"}, alone=True), Hop()),
    ),
    "cv-missing": Case("8617 4.1.3: cv is needed", fails("ARC-Seal 1: cv= is missing"), sealed(cv="")),
    "cv-unknown": Case(
        "8617 4.4: three words", fails("ARC-Seal 1: cv= is missing or no"), sealed(cv="temperror")
    ),
    "cv-upper-case": Case("8617 4.1.3: words have no case", passes(2), (Hop(), Hop(seal={"cv": "PASS"}))),
    # message signatures, 4.1.2, step 4
    "body-changed": Case(
        "8617 5.2 step 4: the newest must verify",
        fails("ARC-Message-Signature 2: the body was changed", 2),
        TWO,
        tail=b"more\r\n",
    ),
    "header-changed": Case(
        "8617 5.2 step 4: the newest must verify",
        fails("ARC-Message-Signature 1: the signature does not verify"),
        edit=changed(b"Subject", b"test", b"lie"),
    ),
    "from-added": Case(
        "6376 8.15: a From that is not signed may be shown",
        fails("ARC-Message-Signature 1: the message has a From"),
        ams(h="from:subject"),
        on_top((b"From", b" eve@example.com")),
    ),
    "from-not-signed": Case("6376 5.4: From must be in h=", fails("From is not signed"), ams(h="to:subject")),
    "signs-seals": Case(
        "8617 4.1.2: it must not sign ARC-Seal", fails("it signs ARC-Seal"), ams(h="from:arc-seal")
    ),
    "signs-results": Case(
        "8617 4.1.2: sealers should not, and those of the drafts do; validators are not to mind (5.2)",
        passes(2),
        ams(h="from:ARC-Authentication-Results") * 2,
    ),
    "signs-message-signatures": Case(
        "8617 4.1.2, 6376 3.5: as with results; it never means itself, and a later one breaks the first",
        passes(2, oldest=2),
        ams(h="from:arc-message-signature") * 2,
    ),
    "version": Case("8617 4.1.2: v= is ignored", passes(1), ams(v="7")),
    "unknown-tags": Case(
        "6376 3.2: unknown tags mean nothing", passes(1), (Hop({"xx": "1"}, {"bh": "1", "c": "x"}),)
    ),
    "simple": Case("8617 4.1.2: canonical forms as DKIM has them", passes(1), ams(c="simple/simple")),
    "simple-by-default": Case("6376 3.5: without c= it is simple", passes(1), ams(c="")),
    "part-of-body": Case(
        "6376 8.2: what nobody signed may be anything",
        fails("ARC-Message-Signature 1: only 5 of"),
        ams(l="5"),
    ),
    "whole-body-by-length": Case("6376 3.5: l= that covers all", passes(1), ams(l="31")),
    "expired": Case("6376 3.5: x=", fails("expired (x=)"), ams(x=str(NOW - 2 * HOUR), t=str(NOW - 3 * HOUR))),
    "future": Case("6376 3.5: t=", fails("in the future (t=)"), ams(t=str(NOW + 2 * HOUR))),
    "message-rsa-sha1": Case("8301 3.1", fails("rsa-sha1 is no longer accepted"), ams(a="rsa-sha1")),
    "message-algorithm": Case("6376 3.3", fails("the algorithm (a=) is not known"), ams(a="rsa-sha3")),
    "message-no-algorithm": Case("8617 4.1.2: a=", fails("a= is missing"), ams(a="")),
    "message-no-domain": Case("8617 4.1.2: d=", fails("d= is missing"), ams(d="")),
    "message-no-selector": Case("8617 4.1.2: s=", fails("s= is missing"), ams(s="")),
    "message-b-not-base64": Case("8617 4.1.2: b=", fails("b= is missing or not base64"), ams(b="***")),
    "message-bh-not-base64": Case("8617 4.1.2: bh=", fails("bh= is missing or not base64"), ams(bh="*")),
    "message-time": Case("8617 4.1.2: t=", fails("t= is not a number"), ams(t="now")),
    "message-other-domain": Case(
        "8617 4.1.2: its domain need not be the seal's", passes(1), ams(d=DOMAINS[2])
    ),
    # oldest-pass, step 5
    "older-broken": Case("8617 5.2 step 5: a list's footer", passes(2, 2), (Hop(), FOOTER)),
    "oldest-broken": Case("8617 5.2 step 5", passes(3, 2), (Hop(), FOOTER, Hop())),
    "older-all-broken": Case("8617 5.2 step 5", passes(3, 3), (Hop(), Hop(), FOOTER)),
    "older-garbage": Case(
        "8617 5.2 step 5: the chain is not touched", passes(2, 2), (Hop({"bh": "*"}), Hop())
    ),
    "older-part-of-body": Case(
        "6376 8.2: l= in older sets counts for nothing", passes(2, 2), (Hop({"l": "5"}), Hop())
    ),
    "older-key-away": Case(
        "8617 5.2 step 5: DNS may be away for what is optional",
        passes(2, 2),
        (Hop({"s": "away"}), Hop()),
        zone=ZONE + "; failing away._domainkey.hop1.example.net\n",
    ),
    # seals, 4.1.3 and 5.1.1, step 6
    "results-changed": Case(
        "8617 5.2 step 6: seals cover the results",
        fails("ARC-Seal 1: it does not verify"),
        edit=changed(AAR, b"spf=pass", b"spf=fail"),
    ),
    "older-results-changed": Case(
        "8617 5.2 step 6: the newest seal covers all",
        fails("ARC-Seal 2: it does not verify", 2),
        TWO,
        changed(AAR, b"spf=pass", b"spf=fail", 1),
    ),
    "older-seal-changed": Case(
        "8617 5.1.1: a seal covers the seals before it",
        fails("ARC-Seal 2: it does not verify", 2),
        TWO,
        changed(SEAL, b"; t=", b"; z=1; t=", 1),
    ),
    "older-seal-never-right": Case(
        "8617 5.2 step 6: every seal",
        fails("ARC-Seal 1: it does not verify", 2),
        (Hop(seal={"b": base64.b64encode(bytes(128)).decode()}), Hop()),
    ),
    "seal-covers-own-set": Case(
        "8617 5.1.1: all sets are covered",
        fails("ARC-Seal 2: it does not verify", 2),
        (Hop(), Hop(alone=True)),
    ),
    "sets-exchanged": Case(
        "8617 5.1.1: results of another message",
        fails("ARC-Seal 2: it does not verify", 2),
        TWO,
        changed(AAR, b"alice", b"mallory", 2),
    ),
    "seal-has-h": Case("8617 4.1.3: h= in a seal is fail", fails("ARC-Seal 1: it has h="), sealed(h="from")),
    "seal-rsa-sha1": Case("8301 3.1", fails("ARC-Seal 1: rsa-sha1 is no longer"), sealed(a="rsa-sha1")),
    "seal-algorithm": Case("8617 4.1.3: a=", fails("ARC-Seal 1: the algorithm (a=)"), sealed(a="rsa-md5")),
    "seal-no-algorithm": Case("8617 4.1.3: a=", fails("ARC-Seal 1: a= is missing"), sealed(a="")),
    "seal-no-domain": Case("8617 4.1.3: d=", fails("ARC-Seal 1: d= is missing"), sealed(d="")),
    "seal-domain-nul": Case(
        "6376 3.5: d=",
        fails("ARC-Seal: the tag list holds a control", 0),
        sealed(d="a\0.example"),
        without(1, AAR, AMS),
    ),
    "seal-no-selector": Case("8617 4.1.3: s=", fails("ARC-Seal 1: s= is missing"), sealed(s="")),
    "seal-b-not-base64": Case("8617 4.1.3: b=", fails("ARC-Seal 1: b= is missing or"), sealed(b="!!")),
    "seal-time": Case("8617 4.1.3: t=", fails("ARC-Seal 1: t= is not a number"), sealed(t="-1")),
    "seal-without-time": Case("8617 4.1.3: t= may be missing", passes(1), sealed(t="")),
    # keys
    "ed25519": Case(
        "8463: keys as DKIM has them",
        passes(1),
        [Hop({"a": "ed25519-sha256"}, {"a": "ed25519-sha256"}, key="rfc8463")],
        zone=key_line("v=DKIM1; k=ed25519; ", "rfc8463", domain=DOMAINS[1]),
    ),
    "key-none": Case("6376 6.1.2", fails("ARC-Message-Signature 1: no key is published"), zone=""),
    "key-of-seal-none": Case(
        "6376 6.1.2",
        fails("ARC-Seal 1: no key is published"),
        (Hop({"d": DOMAINS[2]}),),
        zone=key_line(domain=DOMAINS[2]),
    ),
    "key-revoked": Case(
        "6376 3.6.1",
        fails("the key was revoked"),
        zone=rezoned(1, 's1._domainkey.hop1.example.net. TXT "p="\n'),
    ),
    "key-for-other-service": Case(
        "6376 3.6.1: s=",
        fails("the key is not for mail"),
        zone=rezoned(1, key_line("s=tlsrpt; ", domain=DOMAINS[1])),
    ),
    "key-short": Case(
        "8301 3.2: under 1024 bits is nothing",
        fails("an RSA key of 1016 bits is not accepted"),
        [Hop(key="rsa1016")],
        zone=key_line(key="rsa1016", domain=DOMAINS[1]),
    ),
    "dns-away": Case(
        "6376 6.1.2: not known now is not broken",
        fails("ARC-Message-Signature 1: the key cannot be looked up now", word="temperror"),
        zone=FAILING.format(1),
    ),
    "dns-away-for-older-seal": Case(
        "6376 6.1.2: not known now is not broken",
        fails("ARC-Seal 1: the key cannot be looked up now", 2, word="temperror"),
        TWO,
        zone=ZONE + FAILING.format(1),
    ),
    "other-from": Case(
        "8617 9.4: a chain says nothing of the author",
        passes(1),
        header=((FROM[0], b" eve@example.com"), *HEADER[2:]),
    ),
}


def main() -> None:
    """Write every case."""
    for name, case in CASES.items():
        case.write(HERE / name)


if __name__ == "__main__":
    main()
