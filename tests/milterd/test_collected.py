"""The header of a message as it comes by, field for field."""

from __future__ import annotations

from mailreeve_milter.collected import TOO_LARGE, TOO_MANY_FIELDS, CollectedHeader
from mailreeve_milter.message_bounds import MessageBounds


def test_more_results_fields_than_are_read_are_forged() -> None:
    """So many are judged as the settings say, each further one is taken for a claim without a look."""
    judged: list[bytes] = []

    def claims(value: bytes) -> bool:
        judged.append(value)
        return False

    header = CollectedHeader(MessageBounds(results_read=5), claims)

    for _ in range(8):
        header.add(b"Authentication-Results", b" other.example.org; none")

    assert len(judged) == 5
    assert header.claimed == [6, 7, 8]


def test_results_fields_are_counted_by_their_name_in_any_case() -> None:
    """The number of a claim counts the fields of that name alone, from 1."""
    header = CollectedHeader(MessageBounds(), lambda value: b"ours" in value)

    for name, value in (
        (b"authentication-RESULTS", b" theirs"),
        (b"To", b" ours"),
        (b"Authentication-Results", b" ours"),
    ):
        header.add(name, value)

    assert header.claimed == [2]


def test_a_header_too_large_is_not_kept() -> None:
    """Its forged fields are found all the same."""
    header = CollectedHeader(MessageBounds(header_octets=100), lambda value: b"ours" in value)

    header.add(b"Subject", b"x" * 100)
    header.add(b"Authentication-Results", b" ours")

    assert (header.excess, header.fields, header.claimed) == (TOO_LARGE, [], [1])


def test_more_fields_than_may_be_are_not_kept() -> None:
    """However short they are: each costs memory. The forged ones are found all the same."""
    header = CollectedHeader(MessageBounds(header_fields=3), lambda value: b"ours" in value)

    for number in range(3):
        header.add(b"X", b"")
        assert (header.excess, len(header.fields)) == (None, number + 1)
    header.add(b"Authentication-Results", b" ours")

    assert (header.excess, header.fields, header.claimed) == (TOO_MANY_FIELDS, [], [1])


def test_a_message_id_keeps_what_is_no_fold() -> None:
    """A CR or LF inside it is text; whoever shows it escapes it."""
    header = CollectedHeader(MessageBounds(header_octets=1000), lambda _: False)

    header.add(b"Message-ID", b"\n <1\r@example.org>")

    assert header.message_id == "<1\r@example.org>"
