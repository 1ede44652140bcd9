"""Mail that a trusted relay passed on: whose client it was, by the relays' own Received fields.

Each field is believed only if a relay wrote it: the first one because a relay is connected to us, each
further one because the field above names a relay as its client. So nothing that a stranger wrote counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mailreeve_milter.message import HeaderField
from mailreeve_milter.received import parse_received
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.transaction import Relayed, Session

MAX_HOPS = 10
"""Relays in a row; each may be two fields, if it filters by way of its loopback address."""

_RECEIVED = b"received"


def session_behind_relays(session: Session, fields: Sequence[HeaderField], relays: NetworkSet) -> Session:
    """The session of a relay as that of its client, or of that one's if it is a relay itself, and so on.

    `fields` top down, the connected relay's Received being the first of its name. What only the
    connection knows (port, server, TLS) stays or is gone; `relayed` is set. Where the fields do not say
    who it was, `relayed.problem` does, and the session is still that of the relay which connected.
    """
    address = session.client_address
    if address is None:
        return session
    written_by = address
    received = (field.value for field in fields if field.lower_name == _RECEIVED)
    for _, value in zip(range(2 * MAX_HOPS), received, strict=False):
        client = parse_received(value)
        if client is None:
            return _unknown(session, f"the Received field of {written_by} does not say who its client was")
        if client.address in relays:
            written_by = client.address
        elif not client.address.is_loopback:  # that is the relay itself, which filters its mail
            return replace(
                session,
                client_address=client.address,
                client_port=None,
                client_name=client.client_name,
                reverse_client_name=None,
                helo_name=client.helo_name,
                relayed=Relayed(address),
            )
    return _unknown(session, f"no Received field says who the client of {written_by} was")


def _unknown(session: Session, problem: str) -> Session:
    address = session.client_address
    return session if address is None else replace(session, relayed=Relayed(address, problem))
