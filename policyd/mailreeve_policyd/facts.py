"""The catalogue of what a rule may ask: name, type, the first stage where each door knows it, one line.

Names are Postfix's policy attributes where it has one (SMTPD_POLICY_README), the RFCs' words elsewhere.
The rules compiler, `rules check` and the generated reference all read this one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from mailreeve_policyd.authres import results_of
from mailreeve_policyd.smtp import Mailbox, Stage
from mailreeve_policyd.transaction import IPAddress, Tls, Transaction

FactValue = str | int | IPAddress | tuple[str, ...]


class FactType(Enum):
    """What a fact's value is, and so which operators apply to it."""

    TEXT = "text"
    MAILBOX = "address"
    DOMAIN = "domain"
    NETWORK_ADDRESS = "network address"
    NUMBER = "number"
    WORD = "word"
    LIST = "list"


class Door(Enum):
    """Which daemon decides: they do not know the same things."""

    POLICY = "policyd"
    MILTER = "milter"


CANNOT_KNOW = "temperror"
"""The word of a WORD fact that could not be known now; a comparison with any other word is unknown."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a rule may ask.

    `known_from` is the first stage at which a door knows it; a door that is missing never does.
    `read` gives None where the fact is absent. `words` is the closed set of a WORD fact. `needs` names
    the evidence that must be gathered before `read` (spf, spf_helo, iprev), else None. `maybe` gives what
    a LIST fact may also hold, but cannot be known now. `is_live`: `read` asks a store, which may take its
    time and raise StoreError.
    """

    name: str
    type: FactType
    summary: str
    known_from: Mapping[Door, Stage]
    read: Callable[[Transaction], FactValue | None]
    words: frozenset[str] = frozenset()
    needs: str | None = None
    maybe: Callable[[Transaction], tuple[str, ...]] | None = None
    is_live: bool = False


def _both(stage: Stage) -> Mapping[Door, Stage]:
    return {Door.POLICY: stage, Door.MILTER: stage}


def _policy_only(stage: Stage) -> Mapping[Door, Stage]:
    return {Door.POLICY: stage}


_MESSAGE = {Door.MILTER: Stage.END_OF_MESSAGE}


def _text(mailbox: Mailbox | None) -> str | None:
    return str(mailbox) if mailbox else None


def _domain(mailbox: Mailbox | None) -> str | None:
    return mailbox.domain if mailbox else None


# Asked by nearly every rule, so each is one call.


def _sender_text(transaction: Transaction) -> str | None:
    envelope = transaction.envelope
    sender = envelope.reverse_path if envelope is not None else None
    return str(sender) if sender is not None else None


def _sender_domain(transaction: Transaction) -> str | None:
    envelope = transaction.envelope
    sender = envelope.reverse_path if envelope is not None else None
    return sender.domain if sender is not None else None


def _author(transaction: Transaction) -> Mailbox | None:
    return transaction.evidence.author if transaction.evidence else None


def _tls(attribute: str) -> Callable[[Transaction], FactValue | None]:
    def read(transaction: Transaction) -> FactValue | None:
        tls: Tls | None = transaction.session.tls
        value: str | int | None = getattr(tls, attribute) if tls else None
        return value

    return read


def _result(method: str, property_name: str | None = None) -> Callable[[Transaction], FactValue | None]:
    def read(transaction: Transaction) -> FactValue | None:
        found = transaction.evidence.result(method, property_name) if transaction.evidence else None
        return found.result if found else "none"

    return read


# What several signatures come to: one pass is enough (RFC 6376 section 6.1), else the word that says most.
_DKIM_ORDER = ("pass", "temperror", "policy", "fail", "neutral", "permerror", "none")


def _dkim(transaction: Transaction) -> FactValue | None:
    results = transaction.evidence.results if transaction.evidence else ()
    words = {found.result for found in results_of(results, "dkim")}
    return next((word for word in _DKIM_ORDER if word in words), "none")


def _dkim_domains_maybe(transaction: Transaction) -> tuple[str, ...]:
    results = transaction.evidence.results if transaction.evidence else ()
    unknown = [found for found in results_of(results, "dkim") if found.result == CANNOT_KNOW]
    return tuple(found.properties.get("header.d", "") for found in unknown)


def _dmarc_policy(transaction: Transaction) -> FactValue | None:
    evidence = transaction.evidence
    if evidence is None or evidence.dmarc_policy is not None:
        return evidence.dmarc_policy if evidence else None
    dmarc = evidence.result("dmarc")  # no policy because there is no record, or because DNS was away?
    return CANNOT_KNOW if dmarc is not None and dmarc.result == CANNOT_KNOW else None


def _arc(transaction: Transaction) -> FactValue | None:
    return transaction.evidence.arc if transaction.evidence else "none"


def _arc_sealer(transaction: Transaction) -> FactValue | None:
    """Of a chain that may be believed: a stranger's valid one has no sealer here."""
    evidence = transaction.evidence
    return evidence.arc_sealer if evidence is not None and evidence.arc == "pass" else None


def _only_bound(transaction: Transaction) -> FactValue | None:
    """Of a fact that settings or files outside have a part in: rules/outside.py gives it its `read`."""
    del transaction
    return None


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_IPREV_WORDS = _words("pass", "fail", "temperror", "permerror", "none")
_SPF_WORDS = _words("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror", "policy")

_CATALOGUE: tuple[Fact, ...] = (
    Fact("client_address", FactType.NETWORK_ADDRESS, "the client's IP address; IPv4-mapped is IPv4",
         _both(Stage.CONNECT), lambda t: t.session.client_address),
    Fact("client_network", FactType.TEXT, "the client's network: its /64, or its IPv4 address with /32",
         _both(Stage.CONNECT), _only_bound),
    Fact("client_country", FactType.TEXT, "where the client is (ISO 3166-1, `DE`), by [geoip] country",
         _both(Stage.CONNECT), _only_bound),
    Fact("client_asn", FactType.NUMBER, "the autonomous system that the client is in, by [geoip] asn",
         _both(Stage.CONNECT), _only_bound),
    Fact("client_name", FactType.DOMAIN, "the client's name, verified forth and back; absent if unknown",
         _both(Stage.CONNECT), lambda t: t.session.client_name),
    Fact("reverse_client_name", FactType.DOMAIN, "the name that the client's PTR gives, not verified",
         _policy_only(Stage.CONNECT), lambda t: t.session.reverse_client_name),
    Fact("client_port", FactType.NUMBER, "the client's TCP port",
         _both(Stage.CONNECT), lambda t: t.session.client_port),
    Fact("server_address", FactType.NETWORK_ADDRESS, "the address of ours that the client connected to",
         _policy_only(Stage.CONNECT), lambda t: t.session.server_address),
    Fact("server_port", FactType.NUMBER, "the port of ours that the client connected to (25, 587, 465)",
         _policy_only(Stage.CONNECT), lambda t: t.session.server_port),
    Fact("policy_context", FactType.TEXT, "the policy_context that main.cf gives this check_policy_service",
         _policy_only(Stage.CONNECT), lambda t: t.session.policy_context),
    Fact("helo_name", FactType.TEXT, "what the client said in HELO or EHLO",
         _both(Stage.HELO), lambda t: t.session.helo_name),
    Fact("protocol_name", FactType.TEXT, "SMTP or ESMTP",
         _policy_only(Stage.HELO), lambda t: t.session.protocol_name),
    Fact("encryption_protocol", FactType.TEXT, "the TLS version, for instance TLSv1.3; absent without TLS",
         _both(Stage.MAIL), _tls("protocol")),
    Fact("encryption_cipher", FactType.TEXT, "the TLS cipher",
         _both(Stage.MAIL), _tls("cipher")),
    Fact("encryption_keysize", FactType.NUMBER, "the TLS cipher's key size in bits",
         _both(Stage.MAIL), _tls("keysize")),
    Fact("tls_sni", FactType.TEXT, "the name that the client asked for by SNI; sent by Postfix from 3.12 on",
         _policy_only(Stage.MAIL), lambda t: t.attributes.get("tls_sni") or None),
    Fact("ccert_subject", FactType.TEXT, "the subject of the client's verified certificate",
         _policy_only(Stage.MAIL), _tls("certificate_subject")),
    Fact("ccert_issuer", FactType.TEXT, "the issuer of the client's verified certificate",
         _policy_only(Stage.MAIL), _tls("certificate_issuer")),
    Fact("ccert_fingerprint", FactType.TEXT, "the fingerprint of the client's certificate",
         _policy_only(Stage.MAIL), _tls("certificate_fingerprint")),
    Fact("ccert_pubkey_fingerprint", FactType.TEXT, "the fingerprint of the client certificate's public key",
         _policy_only(Stage.MAIL), _tls("public_key_fingerprint")),
    Fact("sasl_method", FactType.TEXT, "the SASL mechanism of the login, for instance PLAIN",
         _both(Stage.MAIL), lambda t: t.session.sasl_method),
    Fact("sasl_username", FactType.TEXT, "the login; absent for mail without one",
         _both(Stage.MAIL), lambda t: t.session.sasl_username),
    Fact("sasl_sender", FactType.TEXT, "the AUTH= parameter of MAIL (RFC 4954 section 5)",
         _policy_only(Stage.MAIL), lambda t: t.session.sasl_sender),
    Fact("sender", FactType.MAILBOX, "the reverse-path (MAIL FROM); absent for <>",
         _both(Stage.MAIL), _sender_text),
    Fact("sender_domain", FactType.DOMAIN, "the domain of the reverse-path",
         _both(Stage.MAIL), _sender_domain),
    Fact("size", FactType.NUMBER, "octets: the client's claim before end-of-message, the real size there",
         _both(Stage.MAIL), lambda t: t.size),
    Fact("spf", FactType.WORD, "the SPF result for the reverse-path (RFC 7208)",
         _both(Stage.MAIL), _result("spf", "smtp.mailfrom"), _SPF_WORDS, "spf"),
    Fact("spf_helo", FactType.WORD, "the SPF result for the HELO name",
         _both(Stage.MAIL), _result("spf", "smtp.helo"), _SPF_WORDS, "spf_helo"),
    Fact("iprev", FactType.WORD, "does the PTR name lead back to the address (RFC 8601 section 3)",
         _both(Stage.MAIL), _result("iprev"), _IPREV_WORDS, "iprev"),
    Fact("recipient", FactType.MAILBOX, "the recipient asked about; after rcpt absent if several",
         _both(Stage.RCPT), lambda t: _text(t.recipient)),
    Fact("recipient_domain", FactType.DOMAIN, "the recipient's domain; absent where recipient is",
         _both(Stage.RCPT), lambda t: _domain(t.recipient)),
    Fact("recipient_count", FactType.NUMBER, "how many recipients the message has",
         _both(Stage.DATA), lambda t: t.recipient_count),
    Fact("queue_id", FactType.TEXT, "the MTA's queue id, where it has one yet",
         _both(Stage.DATA), lambda t: t.queue_id),
    Fact("header_from", FactType.MAILBOX, "the address in From, if it has exactly one domain",
         _MESSAGE, lambda t: _text(_author(t))),
    Fact("header_from_domain", FactType.DOMAIN, "the author domain (RFC 9989): the domain in From",
         _MESSAGE, lambda t: _domain(_author(t))),
    Fact("dkim", FactType.WORD, "what the DKIM signatures come to: pass if one passes",
         _MESSAGE, _dkim, _words("pass", "fail", "neutral", "policy", "none", "temperror", "permerror")),
    Fact("dkim_domains", FactType.LIST, "the domains (d=) whose signatures pass",
         _MESSAGE, lambda t: t.evidence.dkim_domains if t.evidence else (), maybe=_dkim_domains_maybe),
    Fact("dmarc", FactType.WORD, "the DMARC result (RFC 9989); none without a record",
         _MESSAGE, _result("dmarc"), _words("pass", "fail", "none", "temperror", "permerror")),
    Fact("dmarc_policy", FactType.WORD, "the policy that applies, after sp, np, t=y; absent without record",
         _MESSAGE, _dmarc_policy, _words("none", "quarantine", "reject", "temperror")),
    Fact("arc", FactType.WORD, "the ARC chain; pass only if one of [arc] trusted_sealers sealed last",
         _MESSAGE, _arc, _words("pass", "untrusted", "fail", "none", "temperror")),
    Fact("arc_sealer", FactType.DOMAIN, "the trusted sealer (d=) that sealed last; absent unless arc is pass",
         _MESSAGE, _arc_sealer),
)  # fmt: skip

FACTS: Mapping[str, Fact] = {fact.name: fact for fact in _CATALOGUE}
"""Every fact by name, in the order in which the reference shows them."""
