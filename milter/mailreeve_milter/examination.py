"""What is done with a message while it comes by: ours is signed, a stranger's is checked.

Knows whose mail is whose (docs/flow.md). Knows neither the protocol that brings the message nor what is
decided about it. Nothing of the body is held: it streams into the hashes that signatures need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import msgspec
from msgspec.structs import replace

from mailreeve_milter import dmarc
from mailreeve_milter.arc_mail import ArcOptions, MessageChain
from mailreeve_milter.authclaim import claims
from mailreeve_milter.authenticate import ALWAYS_NEEDED, authenticate
from mailreeve_milter.authfield import format_field
from mailreeve_milter.author import extract_author
from mailreeve_milter.collected import CollectedHeader
from mailreeve_milter.dkim import SigningKey, start_signing_once, start_verification
from mailreeve_milter.message import HeaderField
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.relayed import session_behind_relays
from mailreeve_milter.signing_table import UNSIGNED, SigningKeys
from mailreeve_milter.spffield import format_received_spf
from mailreeve_policyd.audit import Signature
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.evidence import gather_envelope_evidence
from mailreeve_policyd.resolver_budget import ResolverFor
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.transaction import Evidence, Session, Transaction


class Additions(msgspec.Struct, frozen=True, gc=False):
    """Fields for the top of a message that goes on, in order, and which of them are our signatures."""

    fields: tuple[HeaderField, ...] = ()
    signatures: tuple[Signature, ...] = ()


NOTHING = Additions()


class Examination(Protocol):
    """One message: `update` for each piece of its body, then `conclude`, then `additions` if it goes on.

    `undone` says why the checks could not be done, for the record; None if they could.
    """

    undone: str | None

    def update(self, chunk: bytes) -> None:
        """The next octets of the body."""

    def conclude(self, transaction: Transaction, needs: AbstractSet[str]) -> Evidence:
        """The body is complete: what was found, and what of the envelope the rules need. May ask DNS.

        May be called again after a NotAtHandError.
        """

    def additions(self, evidence: Evidence) -> Additions:
        """What is added to a message that goes on."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Begins examinations. `resolver` makes one for a message, bounded by its budget; `now` is aware.

    `arc` is None where nobody asked for chains. `received_spf`: write that field (RFC 7208 section 9.1).
    """

    authserv_id: str
    own_networks: NetworkSet
    relays: NetworkSet
    max_signatures: int
    keys: SigningKeys
    resolver: ResolverFor
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    arc: ArcOptions | None = None
    received_spf: bool = False
    organizational_domain: dmarc.Method = dmarc.Method.TREE_WALK
    bounds: MessageBounds = MessageBounds()  # noqa: RUF009 -- it is frozen

    def collect(self, session: Session) -> CollectedHeader:
        """For the fields of one message; those of an internal hop are kept, whatever they claim.

        Received-SPF names no authserv-id by which ours could be told from a stranger's: where we write it,
        all others go.
        """
        if self._is_relay(session):
            return CollectedHeader(self.bounds, _never, keeps_received_spf=True)
        is_forged = partial(claims, authserv_id=self.authserv_id)
        return CollectedHeader(self.bounds, is_forged, keeps_received_spf=not self.received_spf)

    def begin(self, session: Session, header: CollectedHeader) -> Examination:
        """The examination of a message whose header is complete."""
        if self.is_own(session):
            return OwnMail(self, session, header.fields, header.excess)
        if header.excess is not None:
            return UncheckedMail(self, session, header.excess)
        return OutsideMail(self, session, header.fields)

    def is_own(self, session: Session) -> bool:
        """Is this our own mail: with a login, from our networks, or handed in on this machine?

        A client of whom nothing is known is never one of ours.
        """
        if session.relayed is not None:  # whose mail that is, only a header says
            return False
        if session.sasl_username is not None or session.is_local_submission:
            return True
        return session.client_address is not None and session.client_address in self.own_networks

    def gather(self, transaction: Transaction, needs: AbstractSet[str]) -> Evidence | None:
        """What rules need to know of a stranger's envelope before the message is there. May ask DNS.

        Behind a relay nothing is known before its Received field is there.
        """
        session = transaction.session
        if not needs or self.is_own(session) or self._is_relay(session):
            return transaction.evidence
        return gather_envelope_evidence(transaction, needs, self.resolver(transaction))

    def results_of(self, session: Session, evidence: Evidence) -> tuple[HeaderField, ...]:
        """The fields that say what was found: our Authentication-Results first."""
        results = format_field(self.authserv_id, evidence.results)
        spf = evidence.result("spf", "smtp.mailfrom") if self.received_spf else None
        if spf is None:
            return (results,)
        return (results, format_received_spf(self.authserv_id, session, spf))

    def session_at_end(self, session: Session, header: CollectedHeader) -> Session:
        """The session that evidence and rules are to see: a relay's is that of its client."""
        if not self._is_relay(session):
            return session
        return session_behind_relays(session, header.fields, self.relays)

    def _is_relay(self, session: Session) -> bool:
        address = session.client_address
        return address is not None and session.sasl_username is None and address in self.relays


def _never(_value: bytes) -> bool:
    return False


class OwnMail:
    """Mail of our users and machines: it leaves signed as [signing] says, with no results added.

    A header too large to be kept has no author here, so that such mail goes unsigned, and the record
    says so.
    """

    def __init__(
        self,
        examiner: Examiner,
        session: Session,
        fields: Sequence[HeaderField],
        undone: str | None = None,
    ) -> None:
        author = extract_author(fields)
        self.undone = undone
        self._examiner = examiner
        self._mailbox = author.mailbox
        choice = examiner.keys.choose(author.mailbox, session) if author.mailbox else UNSIGNED
        self._signing = start_signing_once(fields, choice.keys, choice.options) if choice.keys else None

    def update(self, chunk: bytes) -> None:
        """See Examination."""
        if self._signing is not None:
            self._signing.update(chunk)

    def conclude(self, _transaction: Transaction, _needs: AbstractSet[str]) -> Evidence:
        """Nothing is checked; rules may ask who the author is."""
        return Evidence(author=self._mailbox)

    def additions(self, _evidence: Evidence) -> Additions:
        """The signatures, the first key's on top."""
        if self._signing is None:
            return NOTHING
        signed = self._signing.finish(self._examiner.now())
        return Additions(tuple(field for _, field in signed), tuple(_describe(key) for key, _ in signed))


def _describe(key: SigningKey) -> Signature:
    return Signature(key.domain, key.selector, key.algorithm.value)


class OutsideMail:
    """Mail of strangers, or of a relay that passes it on: checked, and marked with what was found."""

    undone: str | None = None

    def __init__(self, examiner: Examiner, session: Session, fields: Sequence[HeaderField]) -> None:
        self._examiner = examiner
        self._session = session
        self._fields = fields
        self._author = extract_author(fields)
        self._chain = MessageChain(examiner.arc, fields) if examiner.arc is not None else None
        also_hash = self._chain.body_forms if self._chain is not None else ()
        self._verification = start_verification(
            fields, self._author.domain, examiner.max_signatures, also_hash
        )

    def update(self, chunk: bytes) -> None:
        """See Examination."""
        self._verification.update(chunk)

    def conclude(self, transaction: Transaction, needs: AbstractSet[str]) -> Evidence:
        """SPF, DKIM, DMARC and, where it is asked for, ARC, within the time that a message may cost."""
        resolver, now = self._examiner.resolver(transaction), self._examiner.now()
        if needs:
            known = gather_envelope_evidence(transaction, needs | ALWAYS_NEEDED, resolver)
            transaction = replace(transaction, evidence=known)
        outcomes = self._verification.finish(resolver, now)
        method = self._examiner.organizational_domain
        evidence = authenticate(transaction, self._fields, outcomes, resolver, self._author, method)
        if self._chain is None:
            return evidence
        address = transaction.session.client_address
        return self._chain.evaluate(evidence, self._verification.bodies, resolver, now, address)

    def additions(self, evidence: Evidence) -> Additions:
        """Our results, and above them the ARC set that seals them, where one is made."""
        results = self._examiner.results_of(self._session, evidence)
        arc_set = self._chain.seal(results[0], self._examiner.now()) if self._chain is not None else ()
        return Additions((*arc_set, *results))


class UncheckedMail:
    """Mail whose header is too large to be read: what needs the header cannot be known, and says so."""

    def __init__(self, examiner: Examiner, session: Session, excess: str) -> None:
        self.undone: str | None = excess
        self._examiner = examiner
        self._session = session

    def update(self, chunk: bytes) -> None:
        """Nobody needs it."""

    def conclude(self, transaction: Transaction, needs: AbstractSet[str]) -> Evidence:
        """SPF as ever; DKIM, DMARC and ARC are temperror."""
        resolver = self._examiner.resolver(transaction)
        known = gather_envelope_evidence(transaction, needs | ALWAYS_NEEDED, resolver)
        undone = (MethodResult("dkim", "temperror", reason=self.undone), MethodResult("dmarc", "temperror"))
        return Evidence((*known.results, *undone), arc="temperror" if self._examiner.arc else "none")

    def additions(self, evidence: Evidence) -> Additions:
        """Our results."""
        return Additions(self._examiner.results_of(self._session, evidence))
