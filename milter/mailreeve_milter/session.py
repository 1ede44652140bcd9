"""What a milter learns of the SMTP session: the words of CONNECT, HELO and the MTA's macros as a Session.

Macros may be missing: Postfix and Sendmail each send their own (docs/milter.md lists them), and older
ones cannot be asked for more. A missing macro is "not said", never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Session, Tls, parse_address

MAX_PORT = 65_535

LOCAL_NAME = "localhost"
"""The only name by which a client without an address is a local submission. Postfix calls even that
127.0.0.1; by any other name, such as its `unknown` for a client that was gone before it could be asked, the
MTA does not know who it is, and such mail must not pass for ours."""

WANTED_MACROS = {
    Stage.CONNECT: ("{client_addr}", "{client_ptr}", "{client_resolve}", "{daemon_addr}", "{daemon_port}"),
    Stage.HELO: ("{tls_version}", "{cipher}", "{cipher_bits}"),
    Stage.MAIL: ("{auth_type}", "{auth_authen}"),
    Stage.RCPT: (),
    Stage.DATA: ("i",),
    Stage.END_OF_MESSAGE: ("i",),
}
"""The macros that are read at each stage: what an engine asks for where the MTA can be asked (SETSYMLIST)."""


class Macros(Protocol):
    """The MTA's macros so far, by name: a letter (`i`), or several in braces (`{auth_authen}`)."""

    def get(self, name: str, /) -> str | None:
        """The value; None where the MTA did not send it."""


def connected_session(name: str, address: str | None, port: int | None, macros: Macros) -> Session:
    """A session as CONNECT tells of it; `address` is None where the client is no network client."""
    server_port = _number(macros, "{daemon_port}")
    return Session(
        client_address=parse_address(address) if address else None,
        client_port=port or None,
        client_name=None if _is_doubtful(macros) else _host_name(name),
        reverse_client_name=_host_name(macros.get("{client_ptr}")),
        server_address=parse_address(macros.get("{daemon_addr}") or ""),
        server_port=server_port if server_port and server_port <= MAX_PORT else None,
        is_local_submission=address is None and name.lower() == LOCAL_NAME,
    )


def _is_doubtful(macros: Macros) -> bool:
    """Sendmail gives a name that does not lead back to the address, too, and says so in this macro."""
    return (macros.get("{client_resolve}") or "OK") != "OK"


def _host_name(name: str | None) -> str | None:
    """A name in lower case; None for what MTAs write where there is none: `unknown`, `[192.0.2.1]`."""
    if not name or name.startswith("["):
        return None
    lowered = name.lower().removesuffix(".")
    return None if lowered == "unknown" else lowered or None


def session_at_mail(session: Session, macros: Macros) -> Session:
    """The session with what is known from MAIL on: TLS and the login."""
    return replace(
        session,
        tls=_tls(macros),
        sasl_method=macros.get("{auth_type}") or None,
        sasl_username=macros.get("{auth_authen}") or None,
    )


def _tls(macros: Macros) -> Tls | None:
    protocol, cipher = macros.get("{tls_version}") or None, macros.get("{cipher}") or None
    if protocol is None and cipher is None:
        return None
    return Tls(protocol, cipher, _number(macros, "{cipher_bits}"))


MAX_DIGITS = 18
"""Of a number in a macro or parameter: 64 bits hold it."""


def parse_number(text: str | None) -> int | None:
    """A number of ASCII digits; None for anything else."""
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def _number(macros: Macros, name: str) -> int | None:
    return parse_number(macros.get(name))


def declared_size(parameters: Sequence[str]) -> int | None:
    """What MAIL's SIZE parameter claims, in octets (RFC 1870 section 5)."""
    for parameter in parameters:
        keyword, _, value = parameter.partition("=")
        if keyword.upper() == "SIZE":
            return parse_number(value)
    return None
