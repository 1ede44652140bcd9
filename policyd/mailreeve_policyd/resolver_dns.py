"""The real resolver: dnspython, with answers remembered by their TTL and bounds on everything.

Knows dnspython and the clock. Must not know who asks or why. RFC 1035.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeVar

import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError, ResolverError
from mailreeve_policyd.resolver import Answer, MxRecord, NotAtHandError, Resolver, parse_name
from mailreeve_policyd.resolver_cache import AnswerCache, Clock, Key, Remembered
from mailreeve_policyd.resolver_statistics import Counters, DnsStatistics
from mailreeve_policyd.resolver_tcp import MAX_ANSWER_RECORDS, ask_tcp
from mailreeve_policyd.transaction import IPAddress

DNS_PORT = 53

UDP_PAYLOAD_OCTETS = 1232
"""The largest answer that crosses any path unfragmented (DNS flag day 2020); more comes by TCP."""

TRY_SECONDS = 2.0
"""One try at one server, at most: of several servers each has its turn within a question's timeout."""

RecordT = TypeVar("RecordT")

Convert = Callable[[Sequence[Any]], tuple[RecordT, ...]]
"""Makes records of dnspython, of one answer, ours."""


@dataclass(frozen=True, slots=True)
class Server:
    """A name server that is asked."""

    address: IPAddress
    port: int = DNS_PORT


def parse_server(text: str) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`.

    Raises:
        ValueError: none of these forms.
    """
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"no server address: {text!r}")
        return Server(IPv6Address(address), _parse_port(rest[1:]) if rest else DNS_PORT)
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return Server(IPv4Address(address), _parse_port(port))
    return Server(ip_address(text))


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"no port: {text!r}")
    return int(text)


def _unmeasured(_seconds: float) -> None:
    """Nobody measures."""


def open_resolver(configuration: Configuration, asked: Callable[[float], None] = _unmeasured) -> DnsResolver:
    """The resolver that `[dns]` describes; `asked` is that of DnsResolver.

    Raises:
        ConfigError: a server that is no address, or a system that names none.
    """
    settings = configuration.settings.dns
    try:
        servers = tuple(parse_server(text) for text in settings.servers)
    except ValueError as error:
        raise ConfigError(
            str(configuration.path), "dns.servers", str(error), 'write "192.0.2.1:53" or "[2001:db8::1]:53"'
        ) from error
    try:
        return DnsResolver(
            servers,
            settings.timeout_seconds,
            settings.cache_entries,
            asked=asked,
            most_records=settings.max_answer_records,
        )
    except (OSError, dns.exception.DNSException) as error:
        raise ConfigError(
            str(configuration.path),
            "dns.servers",
            f"the system names no DNS server ({error})",
            'name one: servers = ["192.0.2.1"]',
        ) from error


class _Lookups(ABC):
    """The methods of a Resolver, by way of one."""

    def lookup_txt(self, name: str) -> Answer[bytes]:
        """See Resolver."""
        return self._lookup(name, "TXT", _to_txt)

    def lookup_a(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        return self._lookup(name, "A", _to_a)

    def lookup_aaaa(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        return self._lookup(name, "AAAA", _to_aaaa)

    def lookup_mx(self, name: str) -> Answer[MxRecord]:
        """See Resolver."""
        return self._lookup(name, "MX", _to_mx)

    def lookup_ptr(self, address: IPAddress) -> Answer[str]:
        """See Resolver."""
        return self._lookup(address.reverse_pointer, "PTR", _to_ptr)

    @abstractmethod
    def _lookup(self, name: str, rdtype: str, convert: Convert[RecordT]) -> Answer[RecordT]:
        """Ask one question; `convert` makes a record of ours of each of the answer's."""


class DnsResolver(_Lookups):
    """A Resolver over the network, for all threads of a process.

    A question that is under way is not asked twice: who comes later waits for the same answer.
    `servers` empty means the system's. `timeout` is for one question, in seconds, tries, servers and
    TCP included. `cache_entries` 0 remembers nothing. `asked` is told how long a server
    took, or was waited for in vain. An answer of more than `most_records` is none.

    Raises:
        OSError, dns.exception.DNSException: the system's configuration cannot be read.
    """

    def __init__(
        self,
        servers: Sequence[Server] = (),
        timeout: float = 5.0,
        cache_entries: int = 20_000,
        clock: Clock = time.monotonic,
        asked: Callable[[float], None] = _unmeasured,
        most_records: int = MAX_ANSWER_RECORDS,
    ) -> None:
        self._asked = asked
        self._counters = Counters()
        self._stub = dns.resolver.Resolver(configure=not servers)
        addresses = [(str(server.address), server.port) for server in servers]
        self._stub.nameservers = [
            _CountedServer(*address, self._counters, most_records)
            for address in addresses or _servers_of(self._stub)
        ]
        self._stub.use_edns(0, payload=UDP_PAYLOAD_OCTETS)
        self._stub.timeout = min(TRY_SECONDS, timeout / len(self._stub.nameservers))
        self._timeout = timeout
        self._clock = clock
        self._cache = AnswerCache(cache_entries, clock)
        self._under_way: dict[Key, Future[Answer[Any]]] = {}
        self._lock = threading.Lock()
        self._never_waiting: frozenset[int] = frozenset()

    def statistics(self) -> DnsStatistics:
        """What was done so far."""
        return self._counters.snapshot(len(self._cache))

    def never_wait_in(self, thread: int) -> None:
        """From now on this thread (as threading.get_ident) gets what is remembered, or NotAtHandError."""
        self._never_waiting |= {thread}

    def limited(self, seconds: float) -> Resolver:
        """The same resolver, each of its questions answered or given up within `seconds`."""
        return _LimitedResolver(self, seconds) if seconds < self._timeout else self

    def lookup_within(
        self, seconds: float, name: str, rdtype: str, convert: Convert[RecordT]
    ) -> Answer[RecordT]:
        """Answer one question of any type within `seconds`; `convert` makes records of dnspython ours.

        Raises:
            ResolverError: as Resolver.
        """
        remembered = self._cache.get((name, rdtype))  # most names come as they are remembered
        if remembered is not None:
            self._counters.hits += 1
            return remembered.unwrap()
        asked = parse_name(name)
        if asked is None:
            return Answer((), exists=False)
        deadline = self._clock() + min(seconds, self._timeout)
        while True:
            answer = self._join((asked, rdtype), convert, deadline)
            if answer is not None:
                return answer

    def _lookup(self, name: str, rdtype: str, convert: Convert[RecordT]) -> Answer[RecordT]:
        return self.lookup_within(self._timeout, name, rdtype, convert)

    def _join(self, key: Key, convert: Convert[RecordT], deadline: float) -> Answer[RecordT] | None:
        """From memory, with those who ask already, or first. None: who asked before us had less time."""
        remembered = self._cache.get(key)
        if remembered is not None:
            self._counters.hits += 1
            return remembered.unwrap()
        if threading.get_ident() in self._never_waiting:
            raise NotAtHandError
        with self._lock:
            pending = self._under_way.get(key)
            mine: Future[Answer[Any]] = Future()
            if pending is None:
                self._under_way[key] = mine
        if pending is None:
            return self._ask_for_all(key, convert, deadline, mine)
        self._counters.shared += 1
        return self._wait(pending, deadline)

    def _wait(self, pending: Future[Answer[Any]], deadline: float) -> Answer[Any] | None:
        try:
            return pending.result(max(0.0, deadline - self._clock()))
        except FutureTimeoutError:
            raise ResolverError("no answer in time") from None
        except _HurriedError:
            if self._clock() < deadline:
                return None
            raise

    def _ask_for_all(
        self, key: Key, convert: Convert[RecordT], deadline: float, mine: Future[Answer[Any]]
    ) -> Answer[RecordT]:
        self._counters.asked += 1
        started = self._clock()
        try:
            answer = self._ask(key, convert, deadline)
            self._cache.put(key, Remembered(answer))
            mine.set_result(answer)
        except ResolverError as error:
            if not isinstance(error, _HurriedError):
                self._cache.put(key, Remembered(str(error)))
            mine.set_exception(error)
            raise
        except BaseException:
            mine.set_exception(ResolverError("the question could not be asked"))
            raise
        finally:
            waited = self._clock() - started
            self._counters.waited += waited
            self._asked(waited)
            with self._lock:
                del self._under_way[key]
        return answer

    def _ask(self, key: Key, convert: Convert[RecordT], deadline: float) -> Answer[RecordT]:
        name, rdtype = key
        seconds = max(0.0, deadline - self._clock())
        try:
            found = self._stub.resolve(
                _wire_name(name), rdtype, lifetime=seconds, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN as error:
            return Answer((), exists=False, ttl=_negative_ttl(error))
        except dns.resolver.LifetimeTimeout:
            self._counters.timeouts += 1
            kind = _HurriedError if seconds < self._timeout / 2 else ResolverError
            raise kind(f"{rdtype} of {name}: no answer in time") from None
        except (dns.exception.DNSException, OSError) as error:
            self._counters.errors += 1
            raise ResolverError(f"{rdtype} of {name}: {type(error).__name__}") from error
        self._prefer(found.nameserver, found.port)
        rdatas = list(found.rrset) if found.rrset is not None else []
        return Answer(convert(rdatas), ttl=int(found.chaining_result.minimum_ttl))

    def _prefer(self, address: str | None, port: int | None) -> None:
        """Ask the server that answered first from now on: a dead one costs one try, not one each."""
        servers = list(self._stub.nameservers)
        answered = [_is_at(server, address, port) for server in servers]
        if True in answered[1:] and not answered[0]:
            first = answered.index(True)
            self._stub.nameservers = [servers[first], *servers[:first], *servers[first + 1 :]]


class _LimitedResolver(_Lookups):
    """A DnsResolver in a hurry."""

    def __init__(self, resolver: DnsResolver, seconds: float) -> None:
        self._resolver = resolver
        self._seconds = seconds

    def _lookup(self, name: str, rdtype: str, convert: Convert[RecordT]) -> Answer[RecordT]:
        return self._resolver.lookup_within(self._seconds, name, rdtype, convert)


class Questions:
    """How many a message may ask; `spent` is called when it would ask another one, the first time."""

    __slots__ = ("_left", "_spent")

    def __init__(self, most: int, spent: Callable[[], None] = lambda: None) -> None:
        self._left = most
        self._spent: Callable[[], None] | None = spent

    def take(self) -> None:
        """One more. Raises ResolverError: there is none left."""
        if self._left <= 0:
            spent, self._spent = self._spent, None
            if spent is not None:
                spent()
            raise ResolverError("the questions of this message are spent")
        self._left -= 1


class BudgetResolver:
    """A Resolver for one message: all of its questions together take at most `seconds`, and are so many.

    A question that is asked when the budget is spent raises ResolverError, and none takes longer than
    what is left of it where `resolver` has `limited(seconds)`, as DnsResolver has.
    """

    __slots__ = ("_clock", "_deadline", "_limited", "_questions", "_resolver")

    def __init__(
        self,
        resolver: Resolver,
        seconds: float,
        clock: Clock = time.monotonic,
        questions: Questions | None = None,
    ) -> None:
        # asked by name: isinstance() of a Protocol costs more than a cached answer
        self._limited: Callable[[float], Resolver] | None = getattr(resolver, "limited", None)
        self._resolver = resolver
        self._clock = clock
        self._deadline = clock() + seconds
        self._questions = questions

    def limited(self, seconds: float) -> BudgetResolver:
        """A smaller budget within this one."""
        if self._deadline - self._clock() <= seconds:
            return self
        return BudgetResolver(self._resolver, seconds, self._clock, self._questions)

    def lookup_txt(self, name: str) -> Answer[bytes]:
        """See Resolver."""
        return self._in_time().lookup_txt(name)

    def lookup_a(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        return self._in_time().lookup_a(name)

    def lookup_aaaa(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        return self._in_time().lookup_aaaa(name)

    def lookup_mx(self, name: str) -> Answer[MxRecord]:
        """See Resolver."""
        return self._in_time().lookup_mx(name)

    def lookup_ptr(self, address: IPAddress) -> Answer[str]:
        """See Resolver."""
        return self._in_time().lookup_ptr(address)

    def _in_time(self) -> Resolver:
        left = self._deadline - self._clock()
        if left <= 0:
            raise ResolverError("the time for the questions of this message is spent")
        if self._questions is not None:
            self._questions.take()
        return self._limited(left) if self._limited is not None else self._resolver


def with_budget(resolver: Resolver, seconds: float) -> BudgetResolver:
    """A budget of at most `seconds`, within that of `resolver` if it is one."""
    return (
        resolver.limited(seconds)
        if isinstance(resolver, BudgetResolver)
        else BudgetResolver(resolver, seconds)
    )


class _HurriedError(ResolverError):
    """The asker had little time left and says nothing about the server: others go on asking."""


class _CountedServer(dns.nameserver.Do53Nameserver):
    """A name server for which it is counted how often the answer did not fit a datagram."""

    def __init__(self, address: str, port: int, counters: Counters, most_records: int) -> None:
        super().__init__(address, port)
        self._counters = counters
        self._most_records = most_records

    def query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        *options: bool,
        **named_options: bool,
    ) -> dns.message.Message:
        """As that of dnspython; `max_size` asks by TCP, where answers are bounded (resolver_tcp.py)."""
        if max_size:
            self._counters.over_tcp += 1
            return ask_tcp(request, self.address, self.port, timeout, self._most_records)
        return super().query(request, timeout, source, source_port, max_size, *options, **named_options)


def _servers_of(stub: dns.resolver.Resolver) -> list[tuple[str, int]]:
    """Those of the system's configuration, which are addresses."""
    return [(str(address), stub.port) for address in stub.nameservers]


def _is_at(server: str | dns.nameserver.Nameserver, address: str | None, port: int | None) -> bool:
    if isinstance(server, str):
        return server == address
    return server.answer_nameserver() == address and server.answer_port() == port


def _wire_name(name: str) -> dns.name.Name:
    return dns.name.Name([*(label.encode("ascii") for label in name.split(".")), b""])


def _negative_ttl(error: dns.resolver.NXDOMAIN) -> int:
    """The SOA's of the answer (RFC 2308 section 5); 0 where it has none."""
    responses: dict[dns.name.Name, Any] = error.kwargs["responses"]
    for response in responses.values():
        try:
            return int(response.resolve_chaining().minimum_ttl)
        except dns.exception.DNSException:
            return 0
    return 0


def _plain(name: dns.name.Name) -> str:
    """As text, lower case; "" for the root."""
    text = name.to_text(omit_final_dot=True).lower()
    return "" if text == "." else text


def _to_txt(rdatas: Sequence[Any]) -> tuple[bytes, ...]:
    return tuple(b"".join(rdata.strings) for rdata in rdatas)


def _to_a(rdatas: Sequence[Any]) -> tuple[IPAddress, ...]:
    return tuple(IPv4Address(rdata.address) for rdata in rdatas)


def _to_aaaa(rdatas: Sequence[Any]) -> tuple[IPAddress, ...]:
    return tuple(IPv6Address(rdata.address) for rdata in rdatas)


def _to_mx(rdatas: Sequence[Any]) -> tuple[MxRecord, ...]:
    return tuple(sorted(MxRecord(rdata.preference, _plain(rdata.exchange)) for rdata in rdatas))


def _to_ptr(rdatas: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_plain(rdata.target) for rdata in rdatas)
