"""iprev: does the client's name lead back to its address? RFC 8601 section 3.

Must not know what is done with the result.
"""

from __future__ import annotations

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.transaction import IPAddress

MAX_NAMES = 10
"""Names of one PTR answer that are asked for their addresses, as RFC 7208 section 4.6.4 has it."""


def evaluate_iprev(address: IPAddress, resolver: Resolver) -> MethodResult:
    """pass, fail, temperror or permerror (RFC 8601 section 2.7.3), written with `policy.iprev`.

    permerror is a client without a name; temperror that no name led back and DNS left one of them open.
    Asks for at most MAX_NAMES names. Never raises.
    """
    try:
        names = resolver.lookup_ptr(address).records[:MAX_NAMES]
    except ResolverError:
        return _result("temperror", address, "DNS did not tell the client's name")
    if not names:
        return _result("permerror", address, "the client has no name")
    undecided = False
    for name in names:
        try:
            if address in _lookup_addresses(name, address, resolver):
                return _result("pass", address, name)
        except ResolverError:
            undecided = True
    if undecided:
        return _result("temperror", address, f"DNS did not tell the address of {names[0]}")
    return _result("fail", address, f"{names[0]} does not lead back to {address}")


def _lookup_addresses(name: str, like: IPAddress, resolver: Resolver) -> tuple[IPAddress, ...]:
    lookup = resolver.lookup_a if like.version == 4 else resolver.lookup_aaaa
    return lookup(name).records


def _result(result: str, address: IPAddress, reason: str) -> MethodResult:
    return MethodResult("iprev", result, {"policy.iprev": str(address)}, reason)
