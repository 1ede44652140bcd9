"""The limit store on a Redis Cluster: one script call a slot, and a refund where another slot refused.

Knows how charges of several slots are made one answer (promise 6 of DESIGN.md section 5), and that a node may
be away while the others serve. limits_redis_nodes.py knows the nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace
from redis.crc import key_slot

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import (
    SUBJECT_OCTETS,
    Charge,
    Charged,
    LimitStore,
    OnUnavailable,
    Usage,
    charge_one_by_one,
)
from mailreeve_policyd.limits_outage import (
    LOCAL_MEANS,
    PROBE,
    Circuit,
    Meanwhile,
    Outage,
    Retries,
    ThreadRetries,
    charge,
    meanwhile_text,
    usage,
)
from mailreeve_policyd.limits_redis_nodes import Nodes, is_moving
from mailreeve_policyd.limits_redis_script import (
    Receipt,
    Request,
    Verb,
    format_request,
    parse_receipt,
    parse_usages,
    slot_tag,
)
from mailreeve_policyd.limits_window import MICROSECONDS, microseconds
from mailreeve_policyd.redis_access import Address


class ClusterStore:
    """A LimitStore on the nodes of a cluster; while one of them is away, its limits alone do without.

    `local` and `mode` are those of Meanwhile. Charges of one slot are one atomic step. With several slots
    each is charged in turn; if one refuses, what was charged before is taken back: meanwhile another
    request may be refused too early, and none is let through too many. A refund that is lost with its
    node or with this process expires like what it was for. Safe from any thread.
    """

    def __init__(
        self,
        nodes: Nodes,
        local: LimitStore,
        mode: OnUnavailable,
        log: logging.Logger,
        clock: Callable[[], float] | None = None,
        remember_seconds: int = 3600,
        *,
        retries: Callable[[], Retries] = ThreadRetries,
    ) -> None:
        self._nodes = nodes
        self._meanwhile = Meanwhile(local, mode)
        self._text = meanwhile_text(mode, LOCAL_MEANS)
        self._log = log
        self._clock = clock
        self._remember = remember_seconds * MICROSECONDS
        self._retries = retries
        self._shards: dict[Address, _Shard] = {}

    @property
    def outage(self) -> Outage:
        """See WatchedStore."""
        circuits = [shard.circuit for shard in tuple(self._shards.values())]
        is_away = any(circuit.is_away for circuit in circuits)
        return Outage(is_away, sum(circuit.outages for circuit in circuits), self._meanwhile.calls)

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing: LimitStore.charge."""
        return self._ask("charge", charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge each call: LimitStore.charge_each."""
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        return self._ask("usage", charges)

    def close(self) -> None:
        """Close this process's connections."""
        self._nodes.close()  # a try that is under way ends with them
        for shard in tuple(self._shards.values()):
            shard.circuit.close()
        self._nodes.close()
        self._meanwhile.close()

    def _ask(self, verb: Verb, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        self._request(verb, charges)  # a charge that is none is found before anything is sent
        asked = _Asked(charges)
        for part in _parts(charges):
            self._ask_part("usage" if asked.is_refused else verb, part, asked)
        if asked.missing:
            self._ask_meanwhile(verb, asked)
        if asked.is_refused:
            self._take_back(asked)
        return asked.answer()

    def _ask_part(self, verb: Verb, part: _Part, asked: _Asked) -> None:
        shard = self._shard(part)
        if shard.circuit.is_away:
            asked.missing += part.places
            return
        try:
            answer = self._nodes.run(part.slot, self._request(verb, part.charges))
            usages = parse_usages(part.charges, answer)
        except StoreError as error:
            asked.missing += part.places
            if not is_moving(error):  # which lasts a moment, and is no outage of all that the node has
                self._shard(part).circuit.went(error)
            return
        asked.enter(part.places, usages)
        if verb == "charge" and not asked.is_refused and isinstance(answer, list):
            asked.receipts.append((part.slot, parse_receipt(part.charges, answer)))

    def _ask_meanwhile(self, verb: Verb, asked: _Asked) -> None:
        """The charges whose nodes are away. Last, since what is counted meanwhile is not taken back."""
        does = charge if verb == "charge" and not asked.is_refused else usage
        try:
            usages = self._meanwhile.ask(does, [asked.charges[place] for place in asked.missing])
        except StoreError:
            self._take_back(asked)
            raise
        asked.enter(asked.missing, usages)

    def _take_back(self, asked: _Asked) -> None:
        for slot, receipt in asked.receipts:
            if not receipt.charges:
                continue
            try:
                self._nodes.run(slot, receipt.format_refund(self._remember))
            except StoreError as error:
                self._log.debug("a refund is lost, and expires: %s", error)

    def _request(self, verb: Verb, charges: Sequence[Charge]) -> Request:
        now = "" if self._clock is None else microseconds(self._clock())
        return format_request(verb, now, self._remember, charges)

    def _shard(self, part: _Part) -> _Shard:
        """What is known of the node that owns the part's slot."""
        address = self._nodes.owner(part.slot)
        shard = self._shards.get(address)
        if shard is None:
            shard = self._shards.setdefault(address, self._new_shard(address, part))
        return shard

    def _new_shard(self, address: Address, part: _Part) -> _Shard:
        name = f"the part of the limit store in Redis that was at {address[0]}:{address[1]}"
        key = part.charges[0].key[:SUBJECT_OCTETS] + PROBE.key[SUBJECT_OCTETS:]
        probe = [replace(PROBE, key=key)]

        def ask_again() -> None:
            self._nodes.refresh()
            self._nodes.run(part.slot, self._request("charge", probe))

        return _Shard(Circuit(name, self._text, ask_again, self._log, retries=self._retries()))


@dataclass(frozen=True, slots=True)
class _Shard:
    """A node that owns slots, or did: whether it serves."""

    circuit: Circuit


@dataclass(slots=True)
class _Part:
    """The charges of a call that lie in one slot, and their places in the call."""

    slot: int
    charges: list[Charge] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Asked:
    """A call as far as it has come."""

    charges: Sequence[Charge]
    usages: dict[int, Usage] = field(default_factory=dict)
    receipts: list[tuple[int, Receipt]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    is_refused: bool = False

    def enter(self, places: Sequence[int], usages: Sequence[Usage]) -> None:
        for place, found in zip(places, usages, strict=True):
            self.usages[place] = found
            self.is_refused |= found.exceeded and self.charges[place].refuses

    def answer(self) -> tuple[Usage, ...]:
        in_order = [self.usages[place] for place in range(len(self.charges))]
        if not self.is_refused:
            return tuple(in_order)
        return tuple(replace(each, used=each.used - each.added, added=0) for each in in_order)


def _parts(charges: Sequence[Charge]) -> list[_Part]:
    parts: dict[int, _Part] = {}
    for place, each in enumerate(charges):
        slot = key_slot(slot_tag(each.key).encode())
        part = parts.get(slot) or parts.setdefault(slot, _Part(slot))
        part.charges.append(each)
        part.places.append(place)
    return list(parts.values())
