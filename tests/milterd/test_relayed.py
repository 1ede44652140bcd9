"""Whose mail a trusted relay passes on; nobody below a stranger is believed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from mailreeve_milter.message import HeaderField
from mailreeve_milter.relayed import MAX_HOPS, session_behind_relays
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.transaction import Relayed, Session

RELAYS = NetworkSet([ip_network("203.0.113.0/28"), ip_network("2001:db8:1::/64")])
RELAY = Session(
    client_address=ip_address("203.0.113.1"), client_port=4711, client_name="mx2.example.org", helo_name="mx2"
)


def received(helo: str, address: str, by: str = "mx2.example.org (Postfix)") -> HeaderField:
    value = f" from {helo} ({helo} [{address}])\r\n\tby {by} with ESMTP id 1; Mon, 23 Nov 2026 12:00:00 +0000"
    return HeaderField(b"Received", value.encode())


def behind(*fields: HeaderField, session: Session = RELAY) -> Session:
    return session_behind_relays(session, [HeaderField(b"Subject", b" x"), *fields], RELAYS)


def test_the_client_of_the_relay_takes_its_place() -> None:
    """Address, HELO and name are the client's; the relay is remembered."""
    found = behind(received("mail.example.net", "192.0.2.5"))

    assert found == Session(
        client_address=ip_address("192.0.2.5"),
        client_name="mail.example.net",
        helo_name="mail.example.net",
        relayed=Relayed(ip_address("203.0.113.1")),
    )


def test_relays_in_a_row_are_followed() -> None:
    """Each field is the word of the relay that the one above names, of either family."""
    found = behind(
        received("mx3.example.org", "2001:db8:1::3"),
        received("mx4.example.org", "203.0.113.4"),
        received("mail.example.net", "192.0.2.5"),
    )

    assert found.client_address == ip_address("192.0.2.5")
    assert found.relayed == Relayed(ip_address("203.0.113.1"))


def test_a_filter_on_the_relay_is_the_relay() -> None:
    """A relay that filters its mail by way of its loopback address writes two fields."""
    found = behind(received("localhost", "127.0.0.1"), received("mail.example.net", "192.0.2.5"))

    assert found.client_address == ip_address("192.0.2.5")


def test_below_a_stranger_nothing_is_believed() -> None:
    """A stranger's own fields may name anybody, relays among them."""
    forged = (received("bank.example", "198.51.100.1"), received("mx4.example.org", "203.0.113.4"))

    assert behind(received("evil.example.net", "192.0.2.66"), *forged).helo_name == "evil.example.net"


def test_a_field_that_cannot_be_read_leaves_the_client_unknown() -> None:
    """Neither the relay's address nor what stands below counts as the client; the problem is told."""
    local = HeaderField(b"Received", b" by mx2.example.org (Postfix, from userid 33) id 1; Mon, 23 Nov 2026")
    found = behind(local, received("mail.example.net", "192.0.2.5"))

    assert found.client_address == RELAY.client_address
    assert found.relayed == Relayed(
        ip_address("203.0.113.1"), "the Received field of 203.0.113.1 does not say who its client was"
    )


def test_without_a_field_the_client_is_unknown() -> None:
    """No field, or none but those of relays."""
    for last, fields in (("203.0.113.1", ()), ("203.0.113.3", (received("mx3", "203.0.113.3"),))):
        assert behind(*fields).relayed == Relayed(
            ip_address("203.0.113.1"), f"no Received field says who the client of {last} was"
        )


def test_the_number_of_hops_is_bounded() -> None:
    """A loop of relays is nobody's mail."""
    relayed = behind(
        *[received("mx3", "203.0.113.3")] * (2 * MAX_HOPS), received("a.example", "192.0.2.5")
    ).relayed

    assert relayed is not None
    assert relayed.problem is not None


def test_a_local_submission_stays_one() -> None:
    """Without an address there is no relay."""
    assert behind(received("a.example", "192.0.2.5"), session=Session()) == Session()
