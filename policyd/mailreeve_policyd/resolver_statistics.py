"""What the resolver did since its process began, for the metrics. Knows no metrics and no DNS."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class DnsStatistics(msgspec.Struct, frozen=True):
    """One look at the counters; all but `remembered` only grow while the process lives.

    A question is a hit (answered from memory), shared (with one under way already) or asked. Of those asked
    some end in vain: `timeouts` got no answer in time, `errors` one that is none (SERVFAIL, REFUSED, no
    route). `over_tcp` are queries repeated by TCP, as the answer did not fit a datagram. `waited_seconds` is
    what all asking took together. `remembered` is how many answers are held now.
    """

    hits: int = 0
    shared: int = 0
    asked: int = 0
    timeouts: int = 0
    errors: int = 0
    over_tcp: int = 0
    waited_seconds: float = 0.0
    remembered: int = 0


@dataclass(slots=True)
class Counters:
    """The counters as they run. Threads count without a lock: under load a few are missing."""

    hits: int = 0
    shared: int = 0
    asked: int = 0
    timeouts: int = 0
    errors: int = 0
    over_tcp: int = 0
    waited: float = 0.0

    def snapshot(self, remembered: int) -> DnsStatistics:
        """Their values now."""
        return DnsStatistics(
            self.hits,
            self.shared,
            self.asked,
            self.timeouts,
            self.errors,
            self.over_tcp,
            self.waited,
            remembered,
        )
