"""Free TCP ports on loopback."""

import random
import socket

LOOPBACK = "127.0.0.1"
# below Linux's range for outgoing connections (32768), so that a client's port is never in the way
FIRST, LAST = 20000, 32000
ATTEMPTS = 200
_given: set[int] = set()  # by this process: whoever asked for one may not have bound it yet


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, for TCP and for UDP, and that was not given out before."""
    for _ in range(ATTEMPTS):
        port = random.randint(FIRST, LAST)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST} in {ATTEMPTS} attempts")


def is_free(port: int) -> bool:
    """Whether both a TCP and a UDP socket can be bound to the port."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as attempt:
            try:
                attempt.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def accepts(address: str) -> bool:
    """Whether a server accepts a connection at an address of any of the forms that `parse_address` knows."""
    family, where = parse_address(address)
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(1)
        try:
            attempt.connect(where)
        except OSError:
            return False
    return True


def parse_address(address: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """Read `unix:PATH`, `inet:HOST:PORT` (Postfix) or `inet:PORT@HOST` (Sendmail); ValueError otherwise."""
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local"):
        return socket.AF_UNIX, rest
    if kind != "inet":
        raise ValueError(f"{address}: neither unix:PATH nor inet:HOST:PORT")
    if "@" in rest:
        port, _, host = rest.partition("@")
    else:
        host, _, port = rest.rpartition(":")
    return socket.AF_INET, (host or LOOPBACK, int(port))
