"""SPF records: text to value (RFC 7208 sections 4.6.1, 5, 6 and 12), each text once.

The only file that knows pyspf: its grammar says which terms are mechanisms. What follows from a record is
spf.py's. Asks no DNS.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from mailreeve_policyd.spf_macros import MacroError, names_sender, require_macro_string, require_name

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source has escapes that Python 3.12 warns of while compiling
    import spf as pyspf

MAX_RECORD_OCTETS = 16_384
"""Longer ones are wrong; section 3.4 asks for 450, and large senders split theirs into includes."""

MAX_TERMS = 1000
"""Of one record: what is published in one answer over TCP holds some hundreds."""

MAX_TERM_CHARACTERS = 512
"""Of one term: a name of 253 octets with room for macros. Some of pyspf's patterns take a time that grows
with the square of it."""

REMEMBERED_RECORDS = 1024
"""Records that are kept as values; what all senders of a day publish is read once."""

MAX_REMEMBERED_TERMS = 64
"""Records with more are read each time, so that all that are kept take 20 MB at most, two as a rule."""

IPV4_BITS = 32
IPV6_BITS = 128

# unknown-modifier = name "=" macro-string; name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ) (section 12)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)\Z", re.IGNORECASE)
_RECORD_TEXT = re.compile(r"[ -~]*")

_CURRENT = "\0.current"
"""Stands for the current domain while pyspf reads a term; no record holds a NUL."""


class RecordError(ValueError):
    """What is wrong with a record: permerror (section 4.6). Holds a stranger's text."""


@dataclass(frozen=True, slots=True)
class Directive:
    """A mechanism with its qualifier; `result` is what a match gives.

    `network` is that of ip4 and ip6 without its `host_bits`, `version` its family (0: no such mechanism).
    `domain_spec` is unexpanded, None for the current domain. `host_bits_4` and `host_bits_6` are what a
    and mx leave out of the comparison. `names_sender`: it uses a macro of the sender.
    """

    text: str
    mechanism: str
    result: str
    domain_spec: str | None = None
    version: int = 0
    network: int = 0
    host_bits: int = 0
    host_bits_4: int = 0
    host_bits_6: int = 0
    names_sender: bool = False


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record in which every term is well-formed; `redirect` and `explanation` (exp=) are domain-specs.

    A redirect beside an all is None (section 6.1).
    """

    directives: tuple[Directive, ...]
    redirect: str | None = None
    explanation: str | None = None


def is_record(text: bytes) -> bool:
    """Is this TXT record an SPF record (section 4.5)? Its version is `v=spf1`, then a space or the end."""
    return text[:7].lower() in (b"v=spf1", b"v=spf1 ")


def parse_record(text: bytes) -> SpfRecord:
    """A record for which `is_record` holds.

    Raises:
        RecordError: a mistake anywhere in it, or more of it than the bounds allow.
    """
    if len(text) > MAX_RECORD_OCTETS:
        raise RecordError("the record is too long")
    short = text.count(b" ") <= MAX_REMEMBERED_TERMS
    read = _read_once(text) if short else _read(text)
    if isinstance(read, str):
        raise RecordError(read)
    return read


def _read(text: bytes) -> SpfRecord | str:
    """The record, or what is wrong with it: both are worth remembering."""
    try:
        return _parse(text.decode("ascii"))
    except UnicodeDecodeError:
        return "the record is not ASCII"
    except (RecordError, MacroError, pyspf.PermError) as error:
        return str(error)


_read_once = lru_cache(maxsize=REMEMBERED_RECORDS)(_read)


def _parse(text: str) -> SpfRecord:
    """Section 4.6.1."""
    if _RECORD_TEXT.fullmatch(text) is None:
        raise RecordError("a control character in the record")
    terms = text.split(" ")[1:]
    if len(terms) > MAX_TERMS or any(len(term) > MAX_TERM_CHARACTERS for term in terms):
        raise RecordError("too many terms in the record, or one too long")
    directives: list[Directive] = []
    modifiers: dict[str, str] = {}
    for term in terms:
        modifier = _MODIFIER.match(term)
        if modifier is not None:
            _add_modifier(modifiers, modifier[1].lower(), modifier[2])
        elif term:
            directives.append(_parse_directive(term))
    has_all = any(directive.mechanism == "all" for directive in directives)
    redirect = None if has_all else modifiers.get("redirect")
    return SpfRecord(tuple(directives), redirect, modifiers.get("exp"))


def _add_modifier(modifiers: dict[str, str], name: str, value: str) -> None:
    if name not in ("redirect", "exp"):
        require_macro_string(value)  # 6: unknown ones are ignored, however often they come
    elif name in modifiers:
        raise RecordError(f"two {name}= in the record")
    elif not value:
        raise RecordError(f"{name}= without a name")
    else:
        modifiers[name] = _GRAMMAR.expand_domain(value)


def _parse_directive(term: str) -> Directive:
    """What pyspf says: is the term well-formed, which mechanism is it, and what does a match give?"""
    _, mechanism, target, _, result = _GRAMMAR.validate_mechanism(term)
    if mechanism in ("ip4", "ip6"):
        return _network(term, mechanism, result)
    domain_spec = None if target == _CURRENT else target
    _, _, prefix_4, prefix_6 = pyspf.parse_mechanism(term, _CURRENT)
    return Directive(
        term,
        mechanism,
        result,
        domain_spec,
        host_bits_4=0 if prefix_4 is None else IPV4_BITS - prefix_4,
        host_bits_6=0 if prefix_6 is None else IPV6_BITS - prefix_6,
        names_sender=names_sender(term),
    )


def _network(term: str, mechanism: str, result: str) -> Directive:
    _, target, prefix, _ = pyspf.parse_mechanism(term, _CURRENT)
    version, bits = (4, IPV4_BITS) if mechanism == "ip4" else (6, IPV6_BITS)
    host_bits = 0 if prefix is None else bits - prefix
    network = int(ip_address(target)) >> host_bits
    return Directive(term, mechanism, result, version=version, network=network, host_bits=host_bits)


class _Grammar(pyspf.query):  # type: ignore[misc] # pyspf has no types
    """pyspf's reader of terms. Its domain-specs are checked and left as they are: spf.py expands them.

    Reading leaves nothing behind in it (strict=True), so that all threads share one.
    """

    def __init__(self) -> None:
        super().__init__(i="192.0.2.1", s="", h="unknown.invalid", strict=True)
        self.d = _CURRENT

    def expand(self, s: str, stripdot: bool = True) -> str:
        """A domain-spec after it was found to be one; `stripdot` is pyspf's and always true here."""
        del stripdot
        if s != _CURRENT:
            require_name(s)
        return s


_GRAMMAR = _Grammar()
