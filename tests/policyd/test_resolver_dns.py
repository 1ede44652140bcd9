"""The real resolver against a real server on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError, ResolverError
from mailreeve_policyd.resolver import MxRecord, ZoneResolver
from mailreeve_policyd.resolver_dns import (
    BudgetResolver,
    DnsResolver,
    Questions,
    Server,
    open_resolver,
    parse_server,
)
from mailreeve_policyd.settings import Dns, Settings
from tests.lab.dns import REFUSED, SERVFAIL, SILENT, DnsServer, Fault
from tests.lab.ports import free_port

LONG_TEXT = " ".join(f'"{"x" * 200}"' for _ in range(10))
ZONE = f"""
    example.org. 300 TXT "v=spf1 " "-all"
    example.org. MX 20 b.example.org.
    example.org. MX 10 A.example.org.
    a.example.org. A 192.0.2.1
    a.example.org. AAAA 2001:db8::1
    alias.example.org. CNAME a.example.org.
    away.example.org. CNAME nowhere.example.net.
    round.example.org. CNAME trip.example.org.
    trip.example.org. CNAME round.example.org.
    null.example.org. MX 0 .
    long.example.org. TXT {LONG_TEXT}
    1.2.0.192.in-addr.arpa. PTR Mail.Example.ORG.
"""


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


def resolver_for(*servers: DnsServer, timeout: float = 2.0, cache_entries: int = 100) -> DnsResolver:
    return DnsResolver(
        [Server(ip_address("127.0.0.1"), server.port) for server in servers], timeout, cache_entries
    )


def test_records_come_as_values(server: DnsServer) -> None:
    """Every type is converted as the port says; an alias is followed."""
    resolver = resolver_for(server)

    assert resolver.lookup_txt("Example.org.").records == (b"v=spf1 -all",)
    assert resolver.lookup_txt("example.org").ttl == 300
    assert resolver.lookup_a("alias.example.org").records == (ip_address("192.0.2.1"),)
    assert resolver.lookup_aaaa("a.example.org").records == (ip_address("2001:db8::1"),)
    exchanges = (MxRecord(10, "a.example.org"), MxRecord(20, "b.example.org"))
    assert resolver.lookup_mx("example.org").records == exchanges
    assert resolver.lookup_mx("null.example.org").records == (MxRecord(0, ""),)
    assert resolver.lookup_ptr(ip_address("192.0.2.1")).records == ("mail.example.org",)


def test_nxdomain_is_not_nodata(server: DnsServer) -> None:
    """A name without such records exists; one that the server denies does not, also behind an alias."""
    resolver = resolver_for(server)

    assert resolver.lookup_a("example.org").exists
    assert not resolver.lookup_a("nowhere.example.org").exists
    assert not resolver.lookup_a("away.example.org").exists


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "x" * 64 + ".org", "x." * 130 + "org", "bücher.org", "\udcff.org"]
)
def test_what_is_no_name_does_not_exist_and_is_not_asked(server: DnsServer, name: str) -> None:
    """Empty and over-long labels, long names and other letters than ASCII raise nothing."""
    assert not resolver_for(server).lookup_txt(name).exists
    assert server.queries == []


def test_a_name_may_hold_any_ascii_octet(server: DnsServer) -> None:
    """SPF macros make names with spaces, quotes and backslashes; the dot alone has a meaning."""
    server.add('odd\\032na\\\\me\\"\\@.example.org. A 192.0.2.9')

    assert resolver_for(server).lookup_a('odd na\\me"@.example.org').records == (ip_address("192.0.2.9"),)


@pytest.mark.parametrize("fault", [SERVFAIL, REFUSED])
def test_a_server_that_cannot_answer_is_trouble(server: DnsServer, fault: Fault) -> None:
    """SERVFAIL and REFUSED are ResolverError, not absence."""
    server.fail("example.org", fault)

    with pytest.raises(ResolverError, match="NoNameservers"):
        resolver_for(server).lookup_txt("example.org")


def test_an_alias_loop_is_trouble(server: DnsServer) -> None:
    """A loop of aliases ends, as something that DNS cannot say."""
    with pytest.raises(ResolverError):
        resolver_for(server).lookup_a("round.example.org")


def test_a_silent_server_takes_no_longer_than_the_timeout(server: DnsServer) -> None:
    """A question ends at its timeout, in ResolverError."""
    server.fail("example.org", SILENT)
    started = time.monotonic()

    with pytest.raises(ResolverError, match="no answer in time"):
        resolver_for(server, timeout=0.2).lookup_txt("example.org")
    assert time.monotonic() - started < 1


def test_the_next_server_answers_where_the_first_cannot(server: DnsServer) -> None:
    """Servers are tried in order."""
    with DnsServer() as broken:
        broken.fail("example.org", SERVFAIL)

        assert resolver_for(broken, server).lookup_txt("example.org").records
        assert broken.count("example.org") == 1


def test_a_dead_server_costs_one_try(server: DnsServer) -> None:
    """The server that answered is asked first from then on; if it dies too, the other has its turn again."""
    with DnsServer(ZONE) as dead:
        for name in ("example.org", "a.example.org", "b.example.org"):
            dead.fail(name, SILENT)
        resolver = resolver_for(dead, server, timeout=0.6)

        assert resolver.lookup_txt("example.org").records
        assert resolver.lookup_a("a.example.org").records
        assert (dead.count(), server.count()) == (1, 2)
        dead.heal()
        server.fail("example.org", SERVFAIL)
        assert resolver.lookup_mx("example.org").records
        assert (dead.count(), server.count()) == (2, 3)


def test_statistics_tell_what_was_done(server: DnsServer) -> None:
    """For metrics: questions by how they were answered, and the time that asking took."""
    server.fail("b.example.org", SERVFAIL)
    server.fail("example.org", Fault(delay_seconds=0.1))
    resolver = resolver_for(server)
    resolver.lookup_txt("example.org")
    resolver.lookup_txt("example.org")
    with pytest.raises(ResolverError):
        resolver.lookup_a("b.example.org")

    found = resolver.statistics()
    assert (found.hits, found.shared, found.asked) == (1, 0, 2)
    assert (found.timeouts, found.errors, found.over_tcp) == (0, 1, 0)
    assert found.waited_seconds >= 0.1
    assert found.remembered == 2


def test_statistics_tell_why_a_question_was_asked_in_vain(server: DnsServer) -> None:
    """A server that is silent is another trouble than one that refuses."""
    server.fail("a.example.org", SILENT)
    server.fail("b.example.org", SERVFAIL)
    resolver = resolver_for(server, timeout=0.2)
    for name in ("a.example.org", "b.example.org", "nowhere.example.org"):
        with suppress(ResolverError):
            resolver.lookup_a(name)

    found = resolver.statistics()
    assert (found.asked, found.timeouts, found.errors) == (3, 1, 1)


def test_a_truncated_answer_is_asked_again_by_tcp(server: DnsServer) -> None:
    """An answer that does not fit a datagram comes whole."""
    resolver = resolver_for(server)
    assert resolver.lookup_txt("long.example.org").records == (b"x" * 2000,)
    assert [query.tcp for query in server.queries] == [False, True]
    assert (resolver.statistics().asked, resolver.statistics().over_tcp) == (1, 1)


def test_answers_are_remembered(server: DnsServer) -> None:
    """The same question, whatever its case, is asked once; so is one for what is not there."""
    resolver = resolver_for(server)
    for name in (
        "example.org",
        "EXAMPLE.org.",
        "nowhere.example.org",
        "nowhere.example.org",
        "a.example.org",
    ):
        resolver.lookup_txt(name)

    assert server.count() == 3
    assert (resolver.statistics().hits, resolver.statistics().asked) == (2, 3)


def test_a_failure_is_remembered_for_a_moment(server: DnsServer) -> None:
    """RFC 9520: who asks at once gets the failure again, without a question; later it is asked anew."""
    now = [0.0]
    server.fail("example.org", SERVFAIL)
    resolver = DnsResolver([Server(ip_address("127.0.0.1"), server.port)], clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(ResolverError):
            resolver.lookup_txt("example.org")
    assert server.count() == 1

    server.heal()
    now[0] = 5.0
    assert resolver.lookup_txt("example.org").records


def test_questions_under_way_are_shared(server: DnsServer) -> None:
    """Eight threads with the same question ask once, and all get the answer."""
    server.fail("example.org", Fault(delay_seconds=0.1))
    resolver = resolver_for(server)
    together = threading.Barrier(8)

    def ask(_number: int) -> tuple[bytes, ...]:
        together.wait()
        return resolver.lookup_txt("example.org").records

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {(b"v=spf1 -all",)}
    assert server.count() == 1


def test_who_is_in_a_hurry_does_not_spoil_it_for_others(server: DnsServer) -> None:
    """One asker's time runs out; another who waits for the same answer goes on and gets it."""
    server.fail("example.org", Fault(delay_seconds=0.3))
    resolver = resolver_for(server)
    started = threading.Event()

    def hurry() -> str:
        started.set()
        try:
            resolver.limited(0.05).lookup_txt("example.org")
        except ResolverError as error:
            return str(error)
        return "answered"

    with ThreadPoolExecutor(1) as pool:
        hurried = pool.submit(hurry)
        started.wait()
        assert resolver.lookup_txt("example.org").records
        assert "no answer in time" in hurried.result()


def test_a_budget_bounds_all_questions_of_a_message(server: DnsServer) -> None:
    """Questions together take no longer than the budget; after it nothing is asked."""
    for name in ("example.org", "a.example.org", "b.example.org"):
        server.fail(name, SILENT)
    budget = BudgetResolver(resolver_for(server, timeout=5), seconds=0.2)
    started = time.monotonic()
    for name in ("example.org", "a.example.org", "b.example.org"):
        with pytest.raises(ResolverError):
            budget.lookup_txt(name)

    assert time.monotonic() - started < 1
    assert server.count("b.example.org") == 0


def test_a_budget_counts_time_and_not_questions() -> None:
    """Under a clock of the test: any number of questions, until the time is over; then none."""
    now = [0.0]
    zone = ZoneResolver("example.org. A 192.0.2.1")
    budget = BudgetResolver(zone, 10, lambda: now[0])
    within = budget.limited(3)
    assert budget.lookup_a("example.org").records

    now[0] = 3.0
    assert budget.lookup_a("example.org").records
    with pytest.raises(ResolverError):
        within.lookup_a("example.org")
    now[0] = 10.0
    for lookup in (budget.lookup_a, budget.lookup_aaaa, budget.lookup_mx, budget.lookup_txt):
        with pytest.raises(ResolverError, match="spent"):
            lookup("example.org")
    with pytest.raises(ResolverError, match="spent"):
        budget.lookup_ptr(ip_address("192.0.2.1"))
    assert zone.count() == 2


def test_a_budget_counts_questions_too_where_it_is_told_to() -> None:
    """Of all methods of a message together, also those with less time; told once, nothing is asked."""
    told: list[str] = []
    zone = ZoneResolver("example.org. A 192.0.2.1")
    budget = BudgetResolver(zone, 10, lambda: 0.0, Questions(3, lambda: told.append("spent")))
    within = budget.limited(3)
    for resolver in (budget, within, budget):
        assert resolver.lookup_a("example.org").records
    for _ in range(2):
        with pytest.raises(ResolverError, match="the questions of this message are spent"):
            within.lookup_a("example.org")
    assert (zone.count(), told) == (3, ["spent"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", Server(ip_address("192.0.2.1"), 53)),
        ("192.0.2.1:5353", Server(ip_address("192.0.2.1"), 5353)),
        ("2001:db8::1", Server(ip_address("2001:db8::1"), 53)),
        ("[2001:db8::1]", Server(ip_address("2001:db8::1"), 53)),
        ("[2001:db8::1]:5353", Server(ip_address("2001:db8::1"), 5353)),
    ],
)
def test_servers_are_written_with_and_without_port(text: str, expected: Server) -> None:
    """All forms of `[dns] servers`."""
    assert parse_server(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "[192.0.2.1]",
        "[2001:db8::1",
        "[2001:db8::1]x",
        ":53",
        "192.0.2.1:\u0665",
    ],
)
def test_a_wrong_server_is_the_operators_mistake(text: str) -> None:
    """The configuration names the key and says how it is written."""
    with pytest.raises(ConfigError) as caught:
        open_resolver(configuration(text))

    assert caught.value.place == "dns.servers"
    assert "192.0.2.1:53" in (caught.value.hint or "")


def test_the_configuration_opens_the_resolver(server: DnsServer) -> None:
    """Servers with ports come from the settings."""
    assert open_resolver(configuration(server.address)).lookup_txt("example.org").records


def test_a_port_where_nobody_listens_is_trouble() -> None:
    """A server that is not there is ResolverError."""
    resolver = DnsResolver([Server(ip_address("127.0.0.1"), free_port())], timeout=0.3)

    with pytest.raises(ResolverError):
        resolver.lookup_a("example.org")


def configuration(*servers: str) -> Configuration:
    settings = msgspec.structs.replace(Settings(), dns=Dns(servers=servers))
    return Configuration(Path("/etc/mailreeve/mailreeve.toml"), settings)
