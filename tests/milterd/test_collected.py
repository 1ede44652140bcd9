"""The header of a message as it comes by, field for field."""

from __future__ import annotations

from mailreeve_milter.collected import MAX_RESULTS_READ, CollectedHeader


def test_more_results_fields_than_are_read_are_forged() -> None:
    """The first MAX_RESULTS_READ are judged, each further one is taken for a claim without a look."""
    judged: list[bytes] = []

    def claims(value: bytes) -> bool:
        judged.append(value)
        return False

    header = CollectedHeader(1_048_576, claims)

    for _ in range(MAX_RESULTS_READ + 3):
        header.add(b"Authentication-Results", b" other.example.org; none")

    assert len(judged) == MAX_RESULTS_READ
    assert header.claimed == [MAX_RESULTS_READ + 1, MAX_RESULTS_READ + 2, MAX_RESULTS_READ + 3]


def test_results_fields_are_counted_by_their_name_in_any_case() -> None:
    """The number of a claim counts the fields of that name alone, from 1."""
    header = CollectedHeader(1_048_576, lambda value: b"ours" in value)

    for name, value in (
        (b"authentication-RESULTS", b" theirs"),
        (b"To", b" ours"),
        (b"Authentication-Results", b" ours"),
    ):
        header.add(name, value)

    assert header.claimed == [2]


def test_a_header_too_large_is_not_kept() -> None:
    """Its forged fields are found all the same."""
    header = CollectedHeader(100, lambda value: b"ours" in value)

    header.add(b"Subject", b"x" * 100)
    header.add(b"Authentication-Results", b" ours")

    assert (header.is_too_large, header.fields, header.claimed) == (True, [], [1])


def test_a_message_id_keeps_what_is_no_fold() -> None:
    """A CR or LF inside it is text; whoever shows it escapes it."""
    header = CollectedHeader(1000, lambda _: False)

    header.add(b"Message-ID", b"\n <1\r@example.org>")

    assert header.message_id == "<1\r@example.org>"
