"""Transaction: one mail transaction as far as it has come, a frozen snapshot with its stage.

Both doors make it, the rules and limits read it. It knows no wire and asks no network.

The values that are made anew for each message or step are msgspec.Structs: a frozen dataclass of fifteen
fields takes fifteen times as long to make, and changing one of them (`msgspec.structs.replace`) twenty-five
times. They hold no cycles, so that the garbage collector need not look at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.smtp import Domain, Mailbox, Stage

IPAddress = IPv4Address | IPv6Address

MAX_ADDRESS_CHARACTERS = 80
"""`IPv6:`, 45 of an address and a zone, with room; longer texts are none, and are not remembered."""


def parse_address(text: str) -> IPAddress | None:
    """An IP address as MTAs write it (`IPv6:` prefix and a zone are dropped); IPv4-mapped is IPv4.

    None where it is none: Postfix says `unknown`, a local submission has no address.
    """
    return _parse_address(text) if len(text) <= MAX_ADDRESS_CHARACTERS else None


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> IPAddress | None:
    bare = text.strip().removeprefix("IPv6:").partition("%")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)  # a megabyte
def format_address(address: IPAddress) -> str:
    """As str(), which spells an address anew each time: 2 us for IPv6, and several times a message."""
    return str(address)


class Tls(msgspec.Struct, frozen=True, gc=False):
    """What is known of the client's TLS session; each None where the door does not say."""

    protocol: str | None = None
    cipher: str | None = None
    keysize: int | None = None
    certificate_subject: str | None = None
    certificate_issuer: str | None = None
    certificate_fingerprint: str | None = None
    public_key_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Relayed:
    """The trusted relay that is connected to us, where a session is that of its client.

    `problem` says why that client is not known; the session is then the relay's own, and proves nothing.
    """

    address: IPAddress
    problem: str | None = None


class Session(msgspec.Struct, frozen=True, gc=False):
    """The SMTP session: who is connected. None is "not there" or "not said", never "".

    `client_address` is None where the client is none of the network, or nobody said who it is;
    `is_local_submission` says that it is the former, by the MTA's word (the sendmail command).
    `client_name` is the verified name of the client, `reverse_client_name` what its PTR says.
    `relayed` is set at end-of-message, where a trusted relay passed on the mail of the client.
    """

    client_address: IPAddress | None = None
    client_port: int | None = None
    client_name: str | None = None
    reverse_client_name: str | None = None
    helo_name: str | None = None
    protocol_name: str | None = None
    server_address: IPAddress | None = None
    server_port: int | None = None
    sasl_method: str | None = None
    sasl_username: str | None = None
    sasl_sender: str | None = None
    tls: Tls | None = None
    policy_context: str | None = None
    relayed: Relayed | None = None
    is_local_submission: bool = False


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """RFC 5321 section 2.3.1. `reverse_path` is None for `<>`; recipients are those accepted so far."""

    reverse_path: Mailbox | None
    recipients: tuple[Mailbox, ...] = ()


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """What authentication found. `results` in the order in which RFC 8601 would have them written.

    In the policy daemon only spf (both identities) and iprev can stand here; `author`, `dkim_domains`
    (the d= of signatures that passed) and `dmarc_policy` (the effective one, after sp, np and t=y:
    none, quarantine or reject; None without a record) need the message. `author` is None where the
    message has not exactly one author domain. `arc` is none, pass, untrusted, fail or temperror: a chain
    that is valid is `pass` only if its newest sealer is trusted. `arc_sealer` is that sealer of a valid
    chain, trusted or not.
    """

    results: tuple[MethodResult, ...] = ()
    author: Mailbox | None = None
    dkim_domains: tuple[Domain, ...] = ()
    dmarc_policy: str | None = None
    arc: str = "none"
    arc_sealer: Domain | None = None

    def result(self, method: str, property_name: str | None = None) -> MethodResult | None:
        """The first result of a method, or the first that has the property (spf: smtp.mailfrom)."""
        for result in self.results:
            if result.method == method and (property_name is None or property_name in result.properties):
                return result
        return None


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """One moment of a mail transaction.

    `envelope` is None before MAIL. `recipient` is the one that is asked about at rcpt, afterwards the
    only one, None where there are several. `recipient_count` is known from data on. `size` is the
    client's claim (RFC 1870) before end-of-message, there the real octets; None if unknown.
    `instance` ties the moments of one message together and is None until there is one (an absent
    instance equals no other). `attributes` are the door's own words, for `attribute("name")`.
    """

    stage: Stage
    session: Session
    envelope: Envelope | None = None
    recipient: Mailbox | None = None
    recipient_count: int | None = None
    size: int | None = None
    queue_id: str | None = None
    instance: str | None = None
    attributes: Mapping[str, str] = {}
    evidence: Evidence | None = None
    message_id: str | None = None
