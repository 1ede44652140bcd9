"""Every awkward kind of message arrives as the same Postfix delivers it without us, but for our own fields.

The submission service of this site is a second door for strangers, without the milter: what comes in there
is what a message has to look like.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import Delivered, read_delivered
from tests.lab.dkim_verifier import verify
from tests.lab.keys import SigningKeys
from tests.lab.site import LAPTOP, Site
from tests.lab.smtp import Client, RawClient

STRANGER = Client("203.0.113.9", "client.example.net")
OURS = Client("127.0.0.1", "localhost", "localhost")
NO_FILTER = {
    "smtpd_milters": "",
    "smtpd_recipient_restrictions": "",
    "smtpd_sasl_auth_enable": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
}
SECONDS = 60.0

FROM = b"From: alice@example.org\r\n"
LARGE = b"".join(b"%08d %s\r\n" % (number, b"0123456789" * 7) for number in range(20 * 1024 * 1024 // 81))

MESSAGES = {
    "nothing at all": b"",
    "an empty line": b"\r\n",
    "no header": b"\r\nOnly a body.\r\n",
    "text where the header should be": b"This is no header\r\nand neither is this\r\n",
    "no body": FROM + b"Subject: no body\r\n",
    "empty body": FROM + b"Subject: empty body\r\n\r\n",
    "body of empty lines": FROM + b"\r\n\r\n\r\n\r\n",
    "no line end at the end": FROM + b"\r\nthe last line",
    "NUL in header and body": FROM + b"Subject: a\0b\r\n\r\nbefore\0after\r\n\0\r\n",
    "all octets in the body": FROM + b"\r\n" + bytes(n for n in range(256) if n not in (10, 13)) + b"\r\n",
    "8-bit header": FROM + b"Subject: Gr\xfc\xdfe\r\nX-\xe4: \xff\r\n\r\nH\xe4\r\n",
    "UTF-8 header": FROM + "Subject: Grüße\r\nX-Ünicode: 漢字 😀\r\n\r\nÜmläute\r\n".encode(),
    "bare CR in header": FROM + b"Subject: one\rtwo\r\n\r\nbody\r\n",
    "bare LF in header": FROM + b"Subject: one\nX-Two: two\n folded\r\n\r\nbody\r\n",
    "bare CR and LF in body": FROM + b"\r\none\rtwo\nthree\n\rfour\r\r\nfive\n\nsix\r\n",
    "dots after bare line ends": FROM + b"\r\na\n.b\r.c\n..d\r\n.\ne\r\n",
    "dot lines": FROM + b"\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n",
    "very long lines": FROM + b"X-Long: " + b"y" * 50_000 + b"\r\n\r\n" + b"z" * 500_000 + b"\r\n",
    "long folded field": FROM
    + b"X-Long:"
    + b"\r\n "
    + b"\r\n\t".join([b"word"] * 3000)
    + b"\r\n\r\nbody\r\n",
    "odd spaces": b"From:alice@example.org\r\nSubject:   3, 2   \r\nX-Empty:\r\nX-Space: \r\n\r\nb \t\r\n",
    "space before the colon": FROM + b"Subject : odd\r\n\r\nbody\r\n",
    "fold of spaces alone": FROM + b"Subject: one\r\n \r\n two\r\n\r\nbody\r\n",
    "only From, twice": FROM + b"From: bob@example.org\r\n\r\nbody\r\n",
    "From that is no address": b"From: nobody <\r\n\r\nbody\r\n",
    "mbox line on top": b"From alice@example.org Mon Jan  5 10:00:00 2026\r\n" + FROM + b"\r\nbody\r\n",
    "10,000 header lines": FROM
    + b"".join(b"X-%d: v%d\r\n" % (n, n) for n in range(10_000))
    + b"\r\nbody\r\n",
    "10,000 folded lines": FROM + b"X-R: a\r\n" + b" b\r\n" * 10_000 + b"\r\nbody\r\n",
    "a header of 2 MB": FROM
    + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 900) for n in range(2200))
    + b"\r\nbody\r\n",
    "20 MB": FROM + b"\r\n" + LARGE,
    "results of others": FROM
    + b"Authentication-Results: a.example; none\r\nAuthentication-Results:\r\n\r\nbody\r\n",
    "broken signature": FROM + b"DKIM-Signature: v=1; a=rsa-sha256; d=; s=; b=!!!\r\n\r\nbody\r\n",
}
# these have not exactly one author, or a header above max_header_bytes
UNSIGNED = {
    "nothing at all",
    "an empty line",
    "no header",
    "text where the header should be",
    "only From, twice",
    "From that is no address",
    "a header of 2 MB",
}


@pytest.fixture(scope="module")
def site(shared_work: Path, our_keys: SigningKeys, engine: Engine) -> Iterator[Site]:
    """A site with no rules, and with a door that asks nobody."""
    main = {"header_size_limit": "4194304", "line_length_limit": "65536"}
    work = shared_work / engine
    work.mkdir()
    with Site(work, rules="", keys=our_keys, engine=engine, submission=NO_FILTER, main=main) as site:
        yield site


@pytest.fixture(scope="module")
def plain() -> dict[tuple[Client, str], bytes]:
    """What Postfix alone made of a client's messages: asked once, it holds for both engines."""
    return {}


def deliver(site: Site, port: int, client: Client, message: bytes) -> Delivered:
    """Send a message to one of the doors and wait for it."""
    with RawClient(port) as session:
        assert session.hello(client).ok
        replies = session.mail("sender@list.example", ["bob@example.org"], message)
    assert all(reply.ok for reply in replies), replies
    return read_delivered(site.postfix.next_message("bob@example.org", SECONDS))


def deliver_plain(site: Site, plain: dict[tuple[Client, str], bytes], client: Client, kind: str) -> bytes:
    """All below Postfix's own fields of a message that met no milter."""
    if (client, kind) not in plain:
        delivered = deliver(site, site.postfix.submission_port, client, MESSAGES[kind])
        assert delivered.added == []
        plain[client, kind] = delivered.rest
    return plain[client, kind]


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_strangers_message_keeps_its_octets(
    site: Site, plain: dict[tuple[Client, str], bytes], kind: str
) -> None:
    """All below our own fields on top is what Postfix alone delivers."""
    ours = deliver(site, site.postfix.port, STRANGER, MESSAGES[kind])

    assert ours.rest == deliver_plain(site, plain, STRANGER, kind)
    assert ours.added == ["Authentication-Results"]


@pytest.mark.parametrize("kind", MESSAGES)
def test_our_own_message_keeps_its_octets_and_its_signature_is_right(
    site: Site, plain: dict[tuple[Client, str], bytes], kind: str
) -> None:
    """Signing adds fields on top and changes nothing below; another program finds the signature right."""
    ours = deliver(site, site.postfix.port, OURS, MESSAGES[kind])

    assert ours.rest == deliver_plain(site, plain, OURS, kind)
    assert ours.added == ([] if kind in UNSIGNED else ["DKIM-Signature", "DKIM-Signature"])
    signatures = [one for one in verify(ours.whole, site.dns) if one.domain == "example.org"]
    rsa = [one.result for one in signatures if one.algorithm == "rsa-sha256"]
    assert rsa == ([] if kind in UNSIGNED else ["pass"])


def test_the_filter_did_see_them(site: Site) -> None:
    """A last message is in the record as the others were, and none of them met a bug of ours."""
    sent = site.send(LAPTOP, "sender@list.example", ["bob@example.org"], MESSAGES["dot lines"])
    site.message_record(sent.queue_id)
    assert "Traceback" not in site.milter.text()
    assert "Traceback" not in site.policyd.text()
