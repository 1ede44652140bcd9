"""What no single option of `[arc]` can say. Opens no file: whether a key can be read, the milter finds."""

from __future__ import annotations

from collections.abc import Iterator

from mailreeve_policyd.config_signing import Conflict
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.settings import Arc
from mailreeve_policyd.smtp import parse_domain


def arc_conflicts(arc: Arc) -> Iterator[Conflict]:
    """Every contradiction, in the order of the file."""
    for position, text in enumerate(arc.trusted_sealers):
        if not _is_signing_domain(text):
            place = f"arc.trusted_sealers[{position}]"
            yield place, f"not a domain: {escape(text)!r}", 'the d= of its ARC-Seal: "lists.example.net"'
    if arc.trusted_sealers and not arc.verify:
        yield "arc.trusted_sealers", "has no effect with verify = false", "set verify = true too"
    yield from _bad_seal(arc)


def _bad_seal(arc: Arc) -> Iterator[Conflict]:
    given = {"domain": arc.seal.domain, "selector": arc.seal.selector, "file": arc.seal.file}
    missing = [name for name, value in given.items() if not value]
    if len(missing) == len(given):
        return
    if missing:
        yield f"arc.seal.{missing[0]}", "is missing", "a seal needs domain, selector and file"
    elif not _is_signing_domain(arc.seal.domain) or not _is_domain(arc.seal.selector):
        yield (
            "arc.seal",
            f"not a domain and a selector: {escape(arc.seal.domain)!r}, {escape(arc.seal.selector)!r}",
            'domain = "example.org", selector = "r20260101"',
        )
    elif not arc.verify:
        yield "arc.seal", "needs verify = true", "a seal says what was found of the chain before it (cv=)"


def _is_signing_domain(text: str) -> bool:
    return _is_domain(text) and "." in text and not text.endswith(".")


def _is_domain(text: str) -> bool:
    try:
        parse_domain(text)
    except ProtocolError:
        return False
    return True
