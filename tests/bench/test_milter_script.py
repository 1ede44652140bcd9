"""What milter_load.c is given to send: the packets of an MTA, cut where a milter answers."""

import struct

from tests.bench.milter_client import LEADING_SPACE, NO_ANSWER, NOT_SENT, Mail
from tests.bench.milter_script import OFFER, Agreement, parse_agreement, script

MESSAGE = b"From: alice@example.org\r\nSubject: a\r\n b\r\n\r\nHello\r\n"
LOGIN = {"{auth_authen}": "alice"}
SILENT = sum(NO_ANSWER.values()) | LEADING_SPACE


def parts_of(agreement: Agreement, macros: dict[str, str] | None = None) -> list[list[bytes]]:
    """The script of MESSAGE: for each part its packets, from their command on."""
    octets = script(
        agreement, Mail("192.0.2.1", macros or {}, "alice@example.org", MESSAGE), "bob@example.net"
    )
    return [list(pieces(part)) for part in pieces(octets)]


def pieces(octets: bytes) -> list[bytes]:
    """What a row of lengths and octets consists of."""
    found = []
    while octets:
        size = struct.unpack("!I", octets[:4])[0]
        found.append(octets[4 : 4 + size])
        octets = octets[4 + size :]
    return found


def test_a_milter_that_answers_nothing_gets_the_message_in_one_part() -> None:
    """The offer is answered, and the end of the message; all between is sent at once, in order."""
    offer, message = parts_of(Agreement(SILENT, {}))

    assert offer == [b"O" + OFFER]
    assert [chr(packet[0]) for packet in message if packet[:1] != b"D"] == list("CHMRTLLNBE")


def test_a_part_ends_where_the_milter_answers() -> None:
    """A milter that answers every step: ten steps, and the offer."""
    assert len(parts_of(Agreement(0, {}))) == 11


def test_a_step_that_is_not_wanted_is_not_sent_but_its_macros_are() -> None:
    """Postfix sends the macros of a step also where the step itself is declined."""
    packets = [packet for part in parts_of(Agreement(SILENT | NOT_SENT["C"], {})) for packet in part]

    assert not any(packet.startswith(b"C") for packet in packets)
    assert any(packet.startswith(b"DC") for packet in packets)


def test_a_milter_gets_the_macros_that_it_asks_for() -> None:
    """Names with and without braces; what Postfix does not know at that step is left out."""
    answer = b"O" + struct.pack("!III", 6, 0, SILENT)
    lists = struct.pack("!I", 0) + b"j {client_addr} i\0" + struct.pack("!I", 2) + b"auth_authen {cipher}\0"
    packets = [packet for part in parts_of(parse_agreement(answer + lists), LOGIN) for packet in part]

    assert b"DCj\0mx.example.net\0{client_addr}\x00192.0.2.1\0" in packets
    assert b"DM{auth_authen}\0alice\0" in packets


def test_a_fold_reaches_a_milter_as_postfix_has_it() -> None:
    """LF alone at the fold; the leading space only where the milter asked for it."""
    kept = [packet for part in parts_of(Agreement(SILENT, {})) for packet in part]
    eaten = [packet for part in parts_of(Agreement(SILENT & ~LEADING_SPACE, {})) for packet in part]

    assert b"LSubject\0 a\n b\0" in kept
    assert b"LSubject\0a\n b\0" in eaten
