"""Answers over TCP: what a stranger's name server may send, and what it costs to refuse."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from struct import pack

import dns.exception
import dns.message
import pytest

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError, ResolverError
from mailreeve_policyd.resolver_dns import DnsResolver, Server, open_resolver
from mailreeve_policyd.resolver_tcp import MAX_ANSWER_RECORDS, ask_tcp
from tests.lab.dns import DnsServer

QUESTION = dns.message.make_query("example.org", "A")


def zone(records: int) -> str:
    return "\n".join(
        f"many.example.org. A 198.51.{number // 250}.{number % 250}" for number in range(records)
    )


def test_an_answer_of_many_records_is_read_whole() -> None:
    """As many as the bound."""
    with DnsServer(zone(MAX_ANSWER_RECORDS - 1)) as server:
        resolver = DnsResolver([Server(IPv4Address("127.0.0.1"), server.port)], 2.0)

        assert len(resolver.lookup_a("many.example.org").records) == MAX_ANSWER_RECORDS - 1


def test_an_answer_of_too_many_records_is_none() -> None:
    """A question to which the server says nothing that can be used: temperror, and remembered as such."""
    with DnsServer(zone(1000)) as server:
        resolver = DnsResolver([Server(IPv4Address("127.0.0.1"), server.port)], 2.0)

        for _ in range(2):
            with pytest.raises(ResolverError):
                resolver.lookup_a("many.example.org")
        assert [query.tcp for query in server.queries] == [False, True]


def test_how_many_records_an_answer_may_have_is_a_setting() -> None:
    """More than by default, for who needs it; and the setting arrives where it is kept."""
    with DnsServer(zone(400)) as server:
        text = f'[dns]\nservers = ["{server.address}"]\nmax_answer_records = '
        for most, expected in ((450, 400), (300, None)):
            configuration = parse_configuration(f"{text}{most}\n".encode(), Path("mailreeve.toml"))
            resolver = open_resolver(configuration)
            if expected is None:
                with pytest.raises(ResolverError):
                    resolver.lookup_a("many.example.org")
            else:
                assert len(resolver.lookup_a("many.example.org").records) == expected


@pytest.mark.parametrize("most", [19, 4001])
def test_a_number_of_records_that_is_of_no_use_is_refused(most: int) -> None:
    """So few that honest answers were lost, or so many that they were no bound."""
    with pytest.raises(ConfigError, match=r"dns\.max_answer_records"):
        parse_configuration(f"dns.max_answer_records = {most}\n".encode(), Path("mailreeve.toml"))


@contextmanager
def served(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """A server for one connection; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                question = stream.recv(4096)[2:]
                stream.sendall(answer(question))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda _: b"\0", id="half a length"),
        pytest.param(lambda _: b"\0\5abcde", id="no header"),
        pytest.param(lambda wire: pack("!H", 4000) + wire, id="cut short"),
        pytest.param(lambda wire: pack("!H", len(wire)) + b"\0\0" + wire[2:], id="another id"),
        pytest.param(lambda _: pack("!H", 12) + b"\xff" * 12, id="counts that are not true"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: Callable[[bytes], bytes]) -> None:
    """Never an exception of another kind, which would be a bug to whoever asked."""
    with served(answer) as port, pytest.raises((dns.exception.DNSException, OSError)):
        ask_tcp(QUESTION, "127.0.0.1", port, 2.0)


def test_a_server_that_says_nothing_is_waited_for_so_long() -> None:
    """The time is for the whole answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(dns.exception.Timeout):
        ask_tcp(QUESTION, "127.0.0.1", listener.getsockname()[1], 0.05)
