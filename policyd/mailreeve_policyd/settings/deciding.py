"""[deciding]: how much work the rules may be."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mailreeve_policyd.settings.section import Section


class Deciding(Section, frozen=True):
    """How much work the rules may be, in both daemons."""

    max_rules_seconds: Annotated[
        float,
        Meta(
            ge=0.01,
            le=60.0,
            description=(
                "How long the processor may work on the rules for one request or message; then that one is "
                "deferred (451 4.3.0) and recorded, and nothing is counted. Waiting for DNS and Redis is not "
                "work: that has times of its own (`dns.message_budget_seconds`, "
                "`limits.redis_timeout_seconds`). The clock is looked at after every 64 comparisons or four "
                "`matches`."
            ),
        ),
    ] = 1.0
    max_matched_characters: Annotated[
        int,
        Meta(
            ge=256,
            le=65_536,
            description=(
                "A longer text matches no pattern of `matches`. With `max_pattern_steps` it bounds what the "
                "worst pattern takes, which grows with both."
            ),
        ),
    ] = 8192
    max_pattern_steps: Annotated[
        int,
        Meta(
            ge=100,
            le=100_000,
            description=(
                "How large a pattern of `matches` may be once it is compiled; larger ones are refused when "
                "the rules are read. `.{1,250}` takes some 2,300 steps."
            ),
        ),
    ] = 2500
