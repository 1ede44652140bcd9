"""The five scenes: what is sent, what must happen. Each prints what it did and checks what it said."""

import re
from collections.abc import Callable

from contrib.demo.report import Report
from tests.lab.delivered import Delivered, read_delivered
from tests.lab.dkim_verifier import verify
from tests.lab.outside import OutsideDomain, compose
from tests.lab.postfix import HOSTNAME, OUTSIDE
from tests.lab.site import ALICE, BOB, LAPTOP, Record, Sent, Site
from tests.lab.smtp import Client

BANK = OutsideDomain("bank.example", "192.0.2.25")
CROOK = Client("203.0.113.66", "cheap-host.example.net")
BURST = 63
ALLOWED = 60  # user-burst of the shipped rules
SHOWN_CHARACTERS = 300


def well_signed(site: Site, report: Report) -> None:
    """SPF, DKIM and DMARC pass."""
    report.tell(
        f"The server of bank.example, {BANK.address}, writes to bob. SPF names this address, the "
        "message carries a DKIM signature, and DMARC asks to reject what has neither."
    )
    message = BANK.sign(
        compose("Bank <alerts@bank.example>", "bob@example.org", "Your statement", "Dear Bob, it is ready.")
    )
    sent = site.send(BANK.server, "alerts@bank.example", ["bob@example.org"], message)
    tell_sent(report, BANK.server, message, sent)
    arrived = next_delivered(site)
    field = (arrived.values("Authentication-Results") or ["(none)"])[0]
    report.row("delivered", f"Authentication-Results: {field}".replace("; ", ";\n  "))
    report.record(site.message_record(sent.queue_id))
    report.check(arrived.added == ["Authentication-Results"], "delivered, with one field of ours on top")
    for method in ("spf", "dkim", "dmarc"):
        report.check(f"{method}=pass" in field, f"{method}=pass in the delivered file")


def forgery(site: Site, report: Report) -> None:
    """Fails SPF, has no DKIM, and is refused."""
    report.tell(
        f"Somebody else, {CROOK.address}, sends in the bank's name. The shipped rules never reject "
        "because DMARC says so alone: here SPF says, too, that the bank does not send from there."
    )
    message = compose("Bank <alerts@bank.example>", "bob@example.org", "Your account", "Click here, quickly!")
    sent = site.send(CROOK, "alerts@bank.example", ["bob@example.org"], message)
    tell_sent(report, CROOK, message, sent)
    record = site.record_wait(lambda one: decided(one, "milter", "reject"), "the record of the refusal")
    report.record(record)
    reply = str(sent.end)
    report.check(bool(re.match(r"5\d\d 5\.7\.", reply)), "refused with a 5.7.x reply")
    report.check(
        bool(record["verdict"].get("rule")), f"the record names the rule: {record['verdict'].get('rule')}"
    )


def signed_by_us(site: Site, report: Report) -> None:
    """A login's message leaves signed; another program says that it is right."""
    report.tell(
        "alice logs in at the submission service and writes to somebody elsewhere. (Mail for other "
        "servers ends in a folder here: nothing leaves the machine.)"
    )
    message = compose(
        "Alice <alice@example.org>", "somebody@example.net", "Lunch?", "At noon, as always. Alice"
    )
    sent = site.send(LAPTOP, "alice@example.org", ["somebody@example.net"], message, login=ALICE)
    tell_sent(report, LAPTOP, message, sent, "logged in as alice")
    raw = site.postfix.next_message(OUTSIDE)
    for value in read_delivered(raw).values("DKIM-Signature"):
        report.row("delivered", cut(f"DKIM-Signature: {value}"))
    results = verify(raw, site.dns)
    for one in results:
        report.row("Mail::DKIM", f"{one.algorithm} d={one.domain} s={one.selector}: {one.result}")
    report.record(site.message_record(sent.queue_id))
    report.check(bool(re.search(rb"^DKIM-Signature:", raw, re.MULTILINE)), "delivered with our signatures")
    rsa = [one.result for one in results if one.algorithm == "rsa-sha256"]
    report.check(rsa == ["pass"], "a verifier that shares no code with ours (Perl's Mail::DKIM) says pass")
    report.remark("Debian 12's version of it knows RSA only, and calls the Ed25519 one invalid.")


def burst(site: Site, report: Report) -> None:
    """A hacked login runs into its limit."""
    report.tell(
        f"bob's password was guessed. A program sends {BURST} messages with his login as fast as it can; "
        f"the shipped rules allow a login {ALLOWED} recipients a minute."
    )
    replies = []
    with site.session(LAPTOP, BOB) as session:
        for number in range(1, BURST + 1):
            message = compose("bob@example.org", "alice@example.org", f"Cheap pills {number}", "Buy!")
            replies.append(session.mail("bob@example.org", ["alice@example.org"], message))
            session.command("RSET")
    taken = [answers for answers in replies if answers[-1].ok]
    deferred = [answers[1] for answers in replies if answers[1].code // 100 == 4]
    report.row("sent", f"{BURST} messages, logged in as bob")
    report.row("Postfix", f"{len(taken)} times: {taken[-1][-1] if taken else ''}")
    report.row("", f"{len(deferred)} times: {deferred[0] if deferred else ''}")
    record = site.record_wait(lambda one: decided(one, "policyd", "defer"), "the record of the deferral")
    report.record(record)
    report.check(len(taken) == ALLOWED, f"{ALLOWED} were taken")
    report.check(len(deferred) == BURST - ALLOWED, "the others may come again later (4xx)")
    told = bool(deferred) and all(re.search(r"\d+ (second|minute)", reply.text) for reply in deferred)
    report.check(told, "and are told when")


def forged_results(site: Site, report: Report) -> None:
    """A field that claims our name is removed."""
    report.tell(
        "Authentication-Results is for our own readers: filters and mail programs behind us trust the "
        f"ones that begin with {HOSTNAME}. A crook writes one himself."
    )
    forged = f"Authentication-Results: {HOSTNAME}; dmarc=pass header.from=bank.example"
    message = compose("crook@crook.example", "bob@example.org", "Trust me", "I am the bank.", forged)
    sent = site.send(CROOK, "crook@crook.example", ["bob@example.org"], message)
    tell_sent(report, CROOK, message, sent)
    values = next_delivered(site).values("Authentication-Results")
    for value in values:
        report.row("delivered", f"Authentication-Results: {value}".replace("; ", ";\n  "))
    report.record(site.message_record(sent.queue_id))
    report.check(not any("header.from=bank.example" in value for value in values), "the forged one is gone")
    report.check(len(values) == 1, "ours is there, and only ours")


SCENES: tuple[tuple[str, Callable[[Site, Report], None]], ...] = (
    ("A well-signed message from outside", well_signed),
    ("A forgery of the same domain", forgery),
    ("A user's message, signed on its way out", signed_by_us),
    ("A burst from one login", burst),
    ("A forged Authentication-Results", forged_results),
)


def tell_sent(report: Report, client: Client, message: bytes, sent: Sent, how: str = "") -> None:
    """Who sent what, and the replies that matter."""
    report.row("sent", f"from {client.address}, EHLO {client.helo}" + (f", {how}" if how else ""))
    header, _, body = message.decode(errors="replace").replace("\r\n", "\n").partition("\n\n")
    wanted = ("From:", "To:", "Subject:", "DKIM-Signature:", "Authentication-Results:")
    fields = re.sub(r"\n[ \t]+", " ", header).splitlines()
    shown = [f"  {cut(field, 160)}" for field in fields if field.startswith(wanted)]
    report.row("", "\n".join([*shown, "", f"  {body.strip()}"]))
    refused = [reply for reply in (sent.mail, *sent.recipients) if not reply.ok]
    report.row("Postfix", str(sent.end or refused[0]))


def next_delivered(site: Site) -> Delivered:
    """The next message in bob's mailbox."""
    return read_delivered(site.postfix.next_message("bob@example.org"))


def decided(record: Record, daemon: str, action: str) -> bool:
    """Whether this record is a daemon's, with this verdict."""
    return bool(record["daemon"] == daemon and record["verdict"]["action"] == action)


def cut(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a long text."""
    return text if len(text) <= characters else f"{text[:characters]} ..."
