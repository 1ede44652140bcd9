from __future__ import annotations

import os

from mailreeve_policyd.sink import REST_SECONDS, Patience, is_writable


def test_a_full_place_is_waited_for_once_and_then_not_until_a_rest_is_over() -> None:
    """So a reader that hangs costs a bounded part of the time of who writes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while is_writable(writing):
        os.write(writing, b"x" * 4096)
    now = [100.0]
    patience = Patience(lambda: now[0])

    assert not patience.wait(writing)
    while not is_writable(writing):
        os.read(reading, 4096)
    assert not patience.wait(writing), "it could be written, but this is not asked so soon"
    now[0] += REST_SECONDS
    assert patience.wait(writing)
    os.close(reading)
    os.close(writing)
