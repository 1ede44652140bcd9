"""The names of a rules file as an expect line has them: nobody is asked, what it gives is there.

Live sets and tables are empty but for what the line gives, and an address is nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mailreeve_policyd.facts import FactValue
from mailreeve_policyd.live import GivenNames
from mailreeve_policyd.rules.compiler import Names
from mailreeve_policyd.rules.nodes import Member
from mailreeve_policyd.rules.sets import LiveSet, NamedSet, entry_of, normal_mailbox
from mailreeve_policyd.rules.source import Mistake, Place, quote, suggest
from mailreeve_policyd.rules.tables import LiveTable, Table
from mailreeve_policyd.transaction import IPAddress


def rehearse(
    names: Names, members: Iterable[Member] = (), facts: Mapping[str, FactValue] | None = None
) -> Names:
    """The names for an expect line, with the members and rows of its `where` and these BOUND_FACTS.

    Raises:
        Mistake: there is no such set or table.
    """
    sets: dict[str, list[Member]] = {}
    rows: dict[str, list[Member]] = {}
    for member in members:
        (sets if member.value is None else rows).setdefault(member.set_name.text, []).append(member)
    _check_known(names.sets, sets, "set")
    _check_known(names.tables, rows, "table")
    live = GivenNames(_live_sets(names, sets), _live_tables(names, rows))
    return Names(
        {name: _set(each, sets.get(name, ()), live) for name, each in names.sets.items()},
        {name: _table(each, rows.get(name, ()), live) for name, each in names.tables.items()},
        replace(names.outside, live=live, country_of=_nowhere, asn_of=_nowhere, given=facts or {}),
        names.texts,
        names.language,
    )


def _nowhere(address: IPAddress | None) -> None:
    del address


def _check_known(known: Mapping[str, object], given: Mapping[str, list[Member]], kind: str) -> None:
    for name, (first, *_) in given.items():
        if name not in known:
            raise Mistake(first.set_name.at, f"there is no {kind} {quote(name)}", suggest(name, known))


def _set(each: NamedSet | LiveSet, given: Iterable[Member], live: GivenNames) -> NamedSet | LiveSet:
    if isinstance(each, LiveSet):
        return replace(each, live=live)
    entries = [entry_of(member.entry) for member in given]
    return each.with_entries(entries) if entries else each


def _table(each: Table | LiveTable, given: Iterable[Member], live: GivenNames) -> Table | LiveTable:
    if isinstance(each, LiveTable):
        return replace(each, live=live)
    rows = {member.entry.text: (member.value or member.entry).text for member in given}
    return each.with_rows(rows, _place(given)) if rows else each


def _place(given: Iterable[Member]) -> Place:
    return next(member.entry.at for member in given)


def _live_sets(names: Names, given: Mapping[str, list[Member]]) -> Mapping[str, frozenset[str]]:
    """By their names in Redis, which several statements may share."""
    found: dict[str, frozenset[str]] = {}
    for name, members in given.items():
        each = names.sets[name]
        if isinstance(each, LiveSet):
            entries = frozenset(normal_mailbox(member.entry.text) for member in members)
            found[each.key] = found.get(each.key, frozenset()) | entries
    return found


def _live_tables(names: Names, given: Mapping[str, list[Member]]) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, members in given.items():
        each = names.tables[name]
        if isinstance(each, LiveTable):
            rows = found.setdefault(each.key, {})
            rows.update((normal_mailbox(one.entry.text), (one.value or one.entry).text) for one in members)
    return found
