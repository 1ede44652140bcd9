"""A message as it lies in a Maildir: its fields one by one, and what was put on top of what was sent."""

import re
from dataclasses import dataclass

# virtual(8) and smtpd(8) add these; ours stand among them, since they go to the top
POSTFIX_FIELDS = ("Return-Path", "X-Original-To", "Delivered-To", "Received")


@dataclass(frozen=True, slots=True)
class Delivered:
    """`top` are the fields down to our own Received, `rest` the octets below it, lines ended by LF.

    `whole` is the file.
    """

    top: tuple[tuple[str, str], ...]
    rest: bytes
    whole: bytes

    @property
    def added(self) -> list[str]:
        """The names of the fields that stand on top and that Postfix did not put there."""
        return [name for name, _ in self.top if name not in POSTFIX_FIELDS]

    def values(self, name: str) -> list[str]:
        """The unfolded values of all fields of a name, top down, whoever wrote them."""
        fields = [*self.top, *parse_fields(self.rest.partition(b"\n\n")[0])]
        return [value for found, value in fields if found.lower() == name.lower()]


def read_delivered(message: bytes) -> Delivered:
    """Take a delivered file apart; ValueError if there is no Received in it."""
    found = re.search(rb"^Received:.*\n(?:[ \t].*\n)*", message, re.MULTILINE)
    if found is None:
        raise ValueError("no Received field")
    return Delivered(tuple(parse_fields(message[: found.end()])), message[found.end() :], message)


def parse_fields(header: bytes) -> list[tuple[str, str]]:
    """Name and unfolded value of each field; what is no field is left out. What is not UTF-8 is escaped."""
    unfolded = re.sub(rb"\n[ \t]+", b" ", header)
    lines = [line.partition(b":") for line in unfolded.split(b"\n") if b":" in line]
    return [
        (name.decode("ascii", "backslashreplace"), value.strip().decode("utf-8", "backslashreplace"))
        for name, _, value in lines
    ]
