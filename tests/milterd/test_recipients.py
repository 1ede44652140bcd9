"""Which recipients an MTA is told to remove and to add."""

from __future__ import annotations

import pytest

from mailreeve_milter.recipients import NO_CHANGE, changed_recipients
from mailreeve_policyd.smtp import parse_mailbox

ALICE, BOB = parse_mailbox("Alice@EXAMPLE.org"), parse_mailbox("bob@example.org")


@pytest.mark.parametrize(
    ("redirect", "copies", "removed", "added"),
    [
        (None, [], [], []),
        (None, ["eve@example.org"], [], ["eve@example.org"]),
        (None, ["alice@example.org"], [], []),
        (None, ["eve@example.org", "EVE@example.org"], [], ["EVE@example.org"]),
        ("eve@example.org", [], [ALICE, BOB], ["eve@example.org"]),
        ("bob@example.org", [], [ALICE], []),
        ("eve@example.org", ["bob@example.org"], [ALICE], ["eve@example.org"]),
    ],
)
def test_a_redirect_takes_all_others_away_and_copies_come_besides(
    redirect: str | None, copies: list[str], removed: list[object], added: list[str]
) -> None:
    """Each once; who is there already is neither removed nor added again."""
    found = changed_recipients([ALICE, BOB], redirect, copies)

    assert found == (tuple(removed), tuple(added))


def test_a_recipient_that_came_twice_is_removed_once() -> None:
    """By its text as RCPT gave it, which is how an MTA finds it."""
    removed, _ = changed_recipients([ALICE, ALICE], "eve@example.org", [])

    assert [each.text for each in removed] == ["Alice@EXAMPLE.org"]
    assert changed_recipients([], None, []) is NO_CHANGE
