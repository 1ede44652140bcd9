"""What one connection of an MTA, and all of them together, may take of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from mailreeve_milter.protocol import MAX_LARGE_OCTETS


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """How many connections a worker serves at once, and how long each may take; in seconds.

    `idle_seconds` without a word, `packet_seconds` for one packet once it has begun (or to take an answer),
    `total_seconds` from its beginning to its end. A message that is being judged is never interrupted.
    A header field or a piece of the body has at most `packet_octets`; `most_waiting` messages of a worker
    are judged, and may wait for DNS, at once.
    """

    most: int = 1000
    idle_seconds: float = 7210.0
    packet_seconds: float = 300.0
    total_seconds: float = 86_400.0
    packet_octets: int = MAX_LARGE_OCTETS
    most_waiting: int = 100

    @property
    def shortest(self) -> float:
        """The shortest time that anything may take."""
        return min(self.idle_seconds, self.packet_seconds, self.total_seconds)
