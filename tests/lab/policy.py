"""A policy server's client: asks as Postfix's smtpd does, one request after the other on a connection."""

import select
import socket
from types import TracebackType
from typing import Self

from tests.lab.ports import parse_address

ANSWER_SECONDS = 30.0


class PolicyClient:
    """A connection to the policy server at an address, as `parse_address` knows them."""

    def __init__(self, address: str) -> None:
        family, where = parse_address(address)
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(where)
        except OSError:
            self._socket.close()
            raise
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    @property
    def has_answer(self) -> bool:
        """Can something be read, now?"""
        return bool(select.select([self._socket], (), (), 0)[0])

    def send(self, **attributes: str) -> None:
        """A request as `ask` makes it, whose answer is not waited for."""
        lines = {"request": "smtpd_access_policy", "protocol_state": "RCPT", **attributes}
        self._socket.sendall("".join(f"{name}={value}\n" for name, value in lines.items()).encode() + b"\n")

    def ask(self, **attributes: str) -> str:
        """The action for a request at RCPT with these attributes; ConnectionError if the server hangs up."""
        self.send(**attributes)
        line = self._answers.readline()
        if not line:
            raise ConnectionError("no answer")
        self._answers.readline()
        return line.decode().removeprefix("action=").rstrip("\n")
