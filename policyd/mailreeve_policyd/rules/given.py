"""A transaction from the facts of an expect line: the inverse of what facts.py reads.

Every fact of the catalogue can be given; a test gives each one and reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.nodes import Given, Network, Number, Subject, Text, Value, ValueList, Word
from mailreeve_policyd.rules.outside import BOUND_FACTS
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import normal_text
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.variation import Prefixes, other
from mailreeve_policyd.smtp import Domain, Mailbox, Stage, parse_domain, parse_path
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Tls, Transaction, parse_address

ANYBODY = "someone"
"""The local part where an expect line gives only a domain."""

_TLS = {
    "encryption_protocol": "protocol", "encryption_cipher": "cipher", "encryption_keysize": "keysize",
    "ccert_subject": "certificate_subject", "ccert_issuer": "certificate_issuer",
    "ccert_fingerprint": "certificate_fingerprint", "ccert_pubkey_fingerprint": "public_key_fingerprint",
}  # fmt: skip

_RESULTS = {
    "spf": ("spf", {"smtp.mailfrom": "given"}), "spf_helo": ("spf", {"smtp.helo": "given"}),
    "iprev": ("iprev", {}), "dkim": ("dkim", {}), "dmarc": ("dmarc", {}),
}  # fmt: skip

_ATTRIBUTES = frozenset(("tls_sni",))
"""Facts that are read from the door's own words."""

_SESSION = frozenset(Session.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Description:
    """A moment by its facts; `values` have those by their names, `attributes` what the door said."""

    stage: Stage
    values: Mapping[str, FactValue] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    def other(self, subject: Subject, fact: Fact, number: int, prefixes: Prefixes) -> Description:
        """The same with another value of this fact (variation.other), which may be part of an address."""
        name = fact.name
        given: FactValue | None = self.values.get(name)
        address = name.removesuffix("_domain")
        values = dict(self.values)
        if address != name and address in values:
            local, _, host = str(values[address]).rpartition("@")
            varied = other(fact, given or host, number, prefixes)
            values |= {address: f"{local}@{varied}" if local else values[address], name: varied}
            return Description(self.stage, values, self.attributes)
        if given is None and (domain := values.pop(f"{name}_domain", None)) is not None:
            given = f"{ANYBODY}@{domain}"
        values[name] = varied = other(fact, given, number, prefixes)
        is_attribute = subject.is_attribute or name in _ATTRIBUTES
        attributes = {**self.attributes, subject.name: str(varied)} if is_attribute else self.attributes
        return Description(self.stage, values, attributes)

    def transaction(self) -> Transaction:
        """The moment; what is not given is absent."""
        return _transaction(self.stage, self.values, self.attributes)


def transaction_from(givens: tuple[Given, ...], scope: Scope) -> Transaction:
    """The moment that these facts describe. Raises as `description_from`."""
    return description_from(givens, scope).transaction()


def description_from(givens: tuple[Given, ...], scope: Scope) -> Description:
    """What an expect line gives.

    Raises:
        Mistake: a fact is not known there, is given twice, or its value is of the wrong type.
    """
    values: dict[str, FactValue] = {}
    attributes: dict[str, str] = {}
    for given in givens:
        fact = scope.fact(given.subject)
        value = _value(fact, given)
        if fact.name in values:
            raise Mistake(given.subject.at, f"{quote(fact.name)} is given twice")
        values[fact.name] = value
        if given.subject.is_attribute or fact.name in _ATTRIBUTES:
            attributes[given.subject.name] = str(value)
    _check_domains(givens, values)
    _check_sealer(givens, values)
    return Description(scope.stage, values, attributes)


def bound_from(givens: tuple[Given, ...], scope: Scope) -> Mapping[str, FactValue]:
    """The BOUND_FACTS that are given: no part of a transaction holds them. Raises as `transaction_from`."""
    bound = [each for each in givens if not each.subject.is_attribute and each.subject.name in BOUND_FACTS]
    return {each.subject.name: _value(scope.fact(each.subject), each) for each in bound}


def _value(fact: Fact, given: Given) -> FactValue:
    value = given.value
    if fact.type is FactType.LIST:
        values = value.values if isinstance(value, ValueList) else (value,)
        return tuple(_domain(_text(fact, each), each) for each in values)
    if isinstance(value, ValueList):
        raise Mistake(value.at, f"{quote(fact.name)} is given one value")
    return _single(fact, value)


def _single(fact: Fact, value: Value) -> FactValue:
    if fact.type is FactType.NUMBER:
        if isinstance(value, Number):
            return value.value
        raise Mistake(value.at, f"{quote(fact.name)} is a number")
    if fact.type is FactType.NETWORK_ADDRESS:
        address = parse_address(value.text) if isinstance(value, Network | Text) else None
        if address is None:
            raise Mistake(value.at, f"{quote(fact.name)} is an address", "write 192.0.2.1 or 2001:db8::1")
        return address
    if fact.type is FactType.WORD:
        return _word(fact, value)
    text = _text(fact, value)
    return _domain(text, value) if fact.type is FactType.DOMAIN else text


def _word(fact: Fact, value: Value) -> str:
    if isinstance(value, Word | Text) and value.text in fact.words:
        return value.text
    words = sorted(fact.words)
    hint = suggest(value.text, words) if isinstance(value, Word | Text) else None
    raise Mistake(value.at, f"{quote(fact.name)} is one of {one_of(words)}", hint)


def _text(fact: Fact, value: Value) -> str:
    if isinstance(value, Text) and value.text:
        return value.text
    raise Mistake(value.at, f"{quote(fact.name)} is given as a text in quotes", 'write "..."')


def _domain(text: str, value: Value) -> Domain:
    try:
        return parse_domain(text)
    except ProtocolError as error:
        raise Mistake(value.at, f"{quote(text)} is no domain", "write it as example.org") from error


def _check_domains(givens: tuple[Given, ...], values: Mapping[str, FactValue]) -> None:
    for given in givens:
        name = given.subject.name
        if not name.endswith("_domain") or name.removesuffix("_domain") not in values:
            continue
        mailbox = parse_path(str(values[name.removesuffix("_domain")]))
        if mailbox is None or mailbox.domain != values[name]:
            raise Mistake(given.subject.at, f"{quote(name)} is not the domain of the address that is given")


def _check_sealer(givens: tuple[Given, ...], values: Mapping[str, FactValue]) -> None:
    for given in givens:
        if given.subject.name == "arc_sealer" and values.get("arc", "pass") != "pass":
            raise Mistake(given.subject.at, "there is an `arc_sealer` only where `arc` is pass")


def _transaction(stage: Stage, values: Mapping[str, FactValue], attributes: Mapping[str, str]) -> Transaction:
    recipient = _mailbox(values, "recipient")
    envelope = Envelope(_mailbox(values, "sender"), (recipient,) if recipient else ())
    return Transaction(
        stage=stage,
        session=_session(values),
        envelope=envelope if stage >= Stage.MAIL else None,
        recipient=recipient,
        recipient_count=_number(values, "recipient_count"),
        size=_number(values, "size"),
        queue_id=str(values["queue_id"]) if "queue_id" in values else None,
        attributes=attributes,
        evidence=_evidence(values),
    )


def _number(values: Mapping[str, FactValue], name: str) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) else None


def _mailbox(values: Mapping[str, FactValue], name: str) -> Mailbox | None:
    if name in values:
        return parse_path(str(values[name]))
    domain = values.get(f"{name}_domain")
    return parse_path(f"{ANYBODY}@{domain}") if domain else None


def _session(values: Mapping[str, FactValue]) -> Session:
    tls = {field: values[name] for name, field in _TLS.items() if name in values}
    own = {name: value for name, value in values.items() if name in _SESSION}
    # the catalogue's types are those of the fields, by the names; the test of all facts holds them to it
    return Session(**own, tls=Tls(**tls) if tls else None)  # type: ignore[arg-type]


def _evidence(values: Mapping[str, FactValue]) -> Evidence:
    results = [
        MethodResult(method, str(values[name]), properties)
        for name, (method, properties) in _RESULTS.items()
        if name in values
    ]
    domains = values.get("dkim_domains")
    signed = tuple(Domain(normal_text(domain)) for domain in domains) if isinstance(domains, tuple) else ()
    if signed and "dkim" not in values:
        results.append(MethodResult("dkim", "pass", {"header.d": signed[0]}))
    policy = values.get("dmarc_policy")
    return Evidence(
        tuple(results),
        _mailbox(values, "header_from"),
        signed,
        str(policy) if policy is not None else None,
        *_arc(values),
    )


def _arc(values: Mapping[str, FactValue]) -> tuple[str, Domain | None]:
    """The chain's word, and who sealed last; a sealer is given with a chain that passes."""
    sealer = values.get("arc_sealer")
    word = str(values.get("arc", "none" if sealer is None else "pass"))
    return word, Domain(str(sealer)) if sealer is not None else None
