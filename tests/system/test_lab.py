"""The lab itself: what the other system tests stand on is real and does what it says."""

import base64
import smtplib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import dkim
import dns.exception
import dns.resolver
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.lab import dkim_verifier
from tests.lab.dns import REFUSED, SERVFAIL, SILENT, DnsServer, Fault
from tests.lab.postfix import OUTSIDE, Door, Postfix, queue_id
from tests.lab.process import LabError
from tests.lab.redis import Redis
from tests.lab.smtp import Client, Login, RawClient, connect, dot_stuff

STRANGER = Client("192.0.2.10", "mail.example.net", "mail.example.net")
ALICE = Login("alice", "a secret")
AWKWARD = (
    b"From: Sender <sender@example.net>\r\nSubject:  two spaces, \xc3\xa4 and \xe4\r\n folded\tline\r\n"
    b"X-Empty:\r\n\r\n.a dot\r\n..two dots\r\n\r\ntrailing space \r\n\x01\x7f\xff\r\n"
)


@pytest.fixture
def postfix(work: Path) -> Iterator[Postfix]:
    """A Postfix without filters, in which alice may log in."""
    server = Postfix(work)
    server.add_user(ALICE.user, ALICE.password)
    with server:
        yield server


@pytest.fixture
def nameserver() -> Iterator[DnsServer]:
    """A name server with a handful of records."""
    zone = """
        example.org.         MX    10 mail.example.org.
        example.org. 300     TXT   "v=spf1 ip4:192.0.2.10 -all"
        mail.example.org.    A     192.0.2.10
        mail.example.org.    AAAA  2001:db8::10
        www.example.org.     CNAME mail.example.org.
        10.2.0.192.in-addr.arpa. PTR mail.example.org.
    """
    zone += 'big.example.org. TXT "{}"\n'.format('" "'.join(["x" * 250] * 20))
    with DnsServer(zone) as server:
        yield server


def ask(server: DnsServer, name: str, rdtype: str) -> list[str]:
    """The records as text, by a resolver that trusts nothing but this server."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], server.port, 1.0
    return [record.to_text() for record in resolver.resolve(name, rdtype, search=False)]


def test_a_message_arrives_as_it_was_sent(postfix: Postfix) -> None:
    """Postfix delivers header and body byte for byte, with LF for CRLF, below its own four fields."""
    with RawClient(postfix.port) as client:
        client.hello(STRANGER)
        replies = client.mail("sender@example.net", ["bob@example.org"], AWKWARD)
    assert [reply.code for reply in replies] == [250, 250, 250], replies

    delivered = postfix.next_message("bob@example.org")
    added, message = delivered[: -len(AWKWARD.replace(b"\r\n", b"\n"))], AWKWARD.replace(b"\r\n", b"\n")
    assert delivered == added + message
    assert [line.split(b":")[0] for line in added.splitlines() if line[:1] not in b" \t"] == [
        b"Return-Path",
        b"X-Original-To",
        b"Delivered-To",
        b"Received",
    ]


def test_xclient_makes_a_message_come_from_elsewhere(postfix: Postfix) -> None:
    """Postfix takes the client's address, names and HELO from XCLIENT, IPv4 and IPv6."""
    elsewhere = Client("2001:db8::25", "v6.example.net")
    for client_now in (STRANGER, elsewhere):
        with connect(postfix.port, client_now) as smtp:
            smtp.sendmail("sender@example.net", "bob@example.org", AWKWARD, ["BODY=8BITMIME"])

    first, second = postfix.delivered_wait("bob@example.org", 2)
    assert b"from mail.example.net (mail.example.net [192.0.2.10])" in first
    assert b"from v6.example.net (unknown [IPv6:2001:db8::25])" in second


def test_a_login_relays_and_a_wrong_password_does_not(postfix: Postfix) -> None:
    """Cyrus SASL checks the password; only who is logged in may send to other domains from submission."""
    with pytest.raises(smtplib.SMTPAuthenticationError):
        connect(postfix.submission_port, login=Login("alice", "wrong"))
    with connect(postfix.submission_port) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused):
        smtp.sendmail("alice@example.org", "somebody@example.net", AWKWARD)

    with connect(postfix.submission_port, STRANGER, ALICE) as smtp:
        smtp.sendmail("alice@example.org", "somebody@example.net", AWKWARD)
    assert b"Delivered-To: somebody@example.net" in postfix.next_message(OUTSIDE)
    assert "sasl_username=alice" in postfix.log_text()


def test_a_stranger_may_not_relay(postfix: Postfix) -> None:
    """Port 25's door refuses other domains to strangers, and takes them from our networks."""
    with RawClient(postfix.port) as client:
        client.hello(STRANGER)
        assert client.envelope("a@example.net", ["b@example.net"])[1].enhanced == "5.7.1"
    with RawClient(postfix.port) as client:
        client.hello(Client("198.51.100.7", "host.example.org"))
        assert client.envelope("a@example.org", ["b@example.net"])[1].ok


class PolicyStub(socketserver.ThreadingUnixStreamServer):
    """A policy server on a unix socket that refuses every recipient and remembers what it was asked."""

    daemon_threads = True
    asked: list[dict[str, str]]


class PolicyQuestion(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        stub = cast("PolicyStub", self.server)
        attributes: dict[str, str] = {}
        for line in self.rfile:
            if line != b"\n":
                name, _, value = line.decode().rstrip("\n").partition("=")
                attributes[name] = value
                continue
            stub.asked.append(attributes)
            self.wfile.write(b"action=REJECT 5.7.1 not today\n\n")


@pytest.fixture
def policy(work: Path) -> Iterator[PolicyStub]:
    """The stub, at work / "policy"."""
    with PolicyStub(str(work / "policy"), PolicyQuestion) as stub:
        stub.asked = []
        (work / "policy").chmod(0o666)
        threading.Thread(target=stub.serve_forever, args=(0.02,), daemon=True).start()
        yield stub
        stub.shutdown()


def test_each_door_asks_its_own_policy_server(work: Path, policy: PolicyStub) -> None:
    """The door with a policy server does what it answers; the other one does not ask it."""
    submission = Door(policy=f"unix:{work}/policy")
    with Postfix(work, submission=submission) as postfix:
        postfix.add_user(ALICE.user, ALICE.password)
        with RawClient(postfix.port) as client:
            client.hello(STRANGER)
            assert client.envelope("a@example.net", ["bob@example.org"])[1].ok
        with RawClient(postfix.submission_port) as client:
            client.hello(STRANGER)
            client.login(ALICE)
            refused = client.envelope("alice@example.org", ["b@example.net"])[1]
    assert (refused.code, refused.enhanced) == (554, "5.7.1")
    (question,) = policy.asked
    assert question["client_address"] == STRANGER.address
    assert question["sasl_username"].startswith("alice")


def test_an_independent_verifier_judges_signatures(nameserver: DnsServer) -> None:
    """Mail::DKIM asks our name server for the key; a changed body fails."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    halves = f'"v=DKIM1; k=rsa; p={public[:200].decode()}" "{public[200:].decode()}"'
    nameserver.add(f"s1._domainkey.example.org. TXT {halves}")
    message = b"From: alice@example.org\r\nSubject: hello\r\n\r\nhello\r\n"
    signed = dkim.sign(message, b"s1", b"example.org", pem) + message

    (good,) = dkim_verifier.verify(signed.replace(b"\r\n", b"\n"), nameserver)
    assert (good.domain, good.selector, good.result) == ("example.org", "s1", "pass")
    (bad,) = dkim_verifier.verify(signed + b"more\r\n", nameserver)
    assert bad.result == "fail"
    assert dkim_verifier.verify(message, nameserver) == []


def test_a_deferred_message_stays_in_the_queue(work: Path) -> None:
    """The queue shows a message that cannot be delivered, and flush delivers it once it can."""
    with Postfix(work, main={"defer_transports": "virtual"}) as postfix:
        with connect(postfix.port, STRANGER) as smtp:
            smtp.mail("sender@example.net")
            smtp.rcpt("bob@example.org")
            name = queue_id(smtp.data(AWKWARD)[1].decode())
        postfix.wait_for_text("status=deferred")
        assert [entry["queue_id"] for entry in postfix.queue()] == [name]

        postfix.main = {}
        postfix.configure()
        postfix.reload()
        postfix.flush()
        postfix.next_message("bob@example.org")
        postfix.wait_empty()


def test_the_sendmail_command_hands_in_a_message(postfix: Postfix) -> None:
    """A program on the mail server itself can send, too."""
    postfix.sendmail("root@example.org", ["bob@example.org"], b"Subject: from here\n\nhello\n")
    assert b"\nSubject: from here\n" in postfix.next_message("bob@example.org")


def test_postfix_ends_with_its_children_and_starts_again(postfix: Postfix) -> None:
    """After stop nothing listens on the port and no process is left; the same object starts again."""
    with RawClient(postfix.port) as client:  # a client that stays holds an smtpd
        group = postfix.pid
        postfix.stop()
        assert not [pid for pid in processes() if process_group(pid) == group]
        with pytest.raises(OSError, match=r".*"):
            socket.create_connection(("127.0.0.1", postfix.port), timeout=5)
        assert client.greeting.code == 220
    postfix.start()
    with connect(postfix.port) as smtp:
        assert smtp.noop()[0] == 250


def processes() -> list[int]:
    """All process ids of the machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def process_group(pid: int) -> int | None:
    """A process's group; None if it is gone or a zombie."""
    try:
        state, _, group = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state == "Z" else int(group)


def test_a_server_that_cannot_start_tells_why(work: Path) -> None:
    """A program that ends at once is an error with the text that it wrote."""
    with pytest.raises(LabError, match=r"redis-server ended with 1(?s:.*)no-such-option"):
        Redis(work, "--no-such-option", "1").start()


def test_redis_answers_and_comes_back_empty(work: Path) -> None:
    """Redis serves TCP and its unix socket; killed and started again it has the same address and no keys."""
    with Redis(work) as redis:
        assert redis.ask("SET key value") == "+OK"
        assert redis.socket.is_socket()
        redis.kill()
        with pytest.raises(OSError, match=r".*"):
            redis.ask("PING")
        redis.start()
        assert redis.ask("DBSIZE") == ":0"


def test_dns_answers_each_type(nameserver: DnsServer) -> None:
    """The name server gives TXT, MX, A, AAAA and PTR, and follows a CNAME; it counts what was asked."""
    assert ask(nameserver, "example.org", "TXT") == ['"v=spf1 ip4:192.0.2.10 -all"']
    assert ask(nameserver, "example.org", "MX") == ["10 mail.example.org."]
    assert ask(nameserver, "WWW.example.org", "A") == ["192.0.2.10"]
    assert ask(nameserver, "mail.example.org", "AAAA") == ["2001:db8::10"]
    assert ask(nameserver, "10.2.0.192.in-addr.arpa", "PTR") == ["mail.example.org."]
    assert nameserver.count("example.org") == 2
    assert nameserver.count(rdtype="A") == 1


def test_dns_tells_a_missing_name_from_a_missing_type(nameserver: DnsServer) -> None:
    """NXDOMAIN is for a name that is not there; a name with other records, or names below it, is NODATA."""
    with pytest.raises(dns.resolver.NXDOMAIN) as missing:
        ask(nameserver, "nothing.example.org", "TXT")
    assert missing.value.response(missing.value.qnames()[0]).authority  # type: ignore[no-untyped-call]
    with pytest.raises(dns.resolver.NoAnswer):
        ask(nameserver, "mail.example.org", "TXT")
    with pytest.raises(dns.resolver.NoAnswer):
        ask(nameserver, "org", "TXT")


def test_dns_answers_too_large_for_udp_come_over_tcp(nameserver: DnsServer) -> None:
    """A truncated UDP answer makes the client ask again over TCP, and there it is whole."""
    assert len(ask(nameserver, "big.example.org", "TXT")[0]) > 5000
    assert [query.tcp for query in nameserver.queries] == [False, True]


@pytest.mark.parametrize("fault", [SERVFAIL, REFUSED])
def test_dns_says_a_failure_on_request(nameserver: DnsServer, fault: Fault) -> None:
    """A name can be made to fail; the others still answer, and it does again after heal()."""
    nameserver.fail("example.org", fault)
    with pytest.raises(dns.resolver.NoNameservers):
        ask(nameserver, "example.org", "TXT")
    assert ask(nameserver, "mail.example.org", "A") == ["192.0.2.10"]
    nameserver.heal()
    assert ask(nameserver, "example.org", "TXT")


def test_dns_is_silent_or_slow_on_request(nameserver: DnsServer) -> None:
    """A silent name makes the client give up; a slow one answers late, and stop() does not wait for it."""
    nameserver.fail("example.org", SILENT)
    with pytest.raises(dns.resolver.LifetimeTimeout):
        ask(nameserver, "example.org", "TXT")
    nameserver.fail("example.org", Fault(delay_seconds=0.2))
    assert ask(nameserver, "example.org", "TXT")
    nameserver.fail("example.org", Fault(delay_seconds=60))
    with pytest.raises(dns.exception.Timeout):
        ask(nameserver, "example.org", "TXT")


def test_dots_are_stuffed_only_where_a_line_begins() -> None:
    """Only a dot after CRLF, or at the very beginning, is doubled; the end of data follows a CRLF."""
    assert dot_stuff(b".a\r\n.b\n.c\r.d\r\n") == b"..a\r\n..b\n.c\r.d\r\n.\r\n"
    assert dot_stuff(b"a") == b"a\r\n.\r\n"
