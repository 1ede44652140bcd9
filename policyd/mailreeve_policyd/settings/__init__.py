"""Every option of mailreeve.toml: its type, unit, default and the problem it solves, described once.

A module for each group of tables; here stands the whole file. The reference page and the commented example
file are made from these classes (mailreeve_admin.reference).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.counting import GeoIp, Limits, Live
from mailreeve_policyd.settings.deciding import Deciding
from mailreeve_policyd.settings.incoming import Arc, Authentication, Dns, Trust
from mailreeve_policyd.settings.milter import Milter
from mailreeve_policyd.settings.notices import Notices
from mailreeve_policyd.settings.policyd import Policyd
from mailreeve_policyd.settings.section import Section, StageName
from mailreeve_policyd.settings.signing import MAX_VALID_HOURS, Canonicalizations, Signing
from mailreeve_policyd.settings.telling import Audit, Log, Metrics, Syslog

__all__ = [
    "MAX_VALID_HOURS",
    "Arc",
    "Audit",
    "Authentication",
    "Canonicalizations",
    "Deciding",
    "Dns",
    "GeoIp",
    "Limits",
    "Live",
    "Log",
    "Metrics",
    "Milter",
    "Notices",
    "Policyd",
    "Settings",
    "Signing",
    "StageName",
    "Syslog",
    "Trust",
]


class Settings(Section, frozen=True):
    """The whole file."""

    rules: Annotated[str, Meta(description="The rules file, relative to this file.")] = "rules"
    state_dir: Annotated[
        str, Meta(description="Where the embedded limit store lives; shared by both daemons.")
    ] = "/var/lib/mailreeve"
    user: Annotated[
        str,
        Meta(
            description=(
                "The account that the daemons run as when started by root, and that owns new keys. "
                "Empty means no change of user."
            )
        ),
    ] = ""
    group: Annotated[str, Meta(description="The group; empty means the user's own.")] = ""
    on_unknown: Annotated[
        Literal["defer", "ignore"],
        Meta(
            description=(
                "What a reject rule does when a fact it needs cannot be known now (DNS is away): "
                "`defer` the mail, or `ignore` the rule. "
                "A rule's own `on-unknown` goes first."
            )
        ),
    ] = "defer"
    drain_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description=("How long a worker that is to end may take to finish the mail that it holds."),
        ),
    ] = 30.0
    hung_after_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description=(
                "A worker whose loop has not come round for so long is killed and replaced; its mail is "
                "deferred. Nothing that a worker does takes seconds. 0 means never."
            ),
        ),
    ] = 60.0
    policyd: Policyd = Policyd()
    milter: Milter = Milter()
    trust: Trust = Trust()
    authentication: Authentication = Authentication()
    signing: Signing = Signing()
    arc: Arc = Arc()
    dns: Dns = Dns()
    limits: Limits = Limits()
    live: Live = Live()
    deciding: Deciding = Deciding()
    geoip: GeoIp = GeoIp()
    notices: Notices = Notices()
    metrics: Metrics = Metrics()
    audit: Audit = Audit()
    log: Log = Log()
    syslog: Syslog = Syslog()
