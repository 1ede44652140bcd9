"""[audit], [log], [syslog] and [metrics]: what the daemons say of mail and of themselves, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.section import Section


class Audit(Section, frozen=True):
    """The record: one JSON line a decision and a message (docs/audit.md)."""

    to: Annotated[
        Literal["stdout", "file", "syslog", "journal"],
        Meta(
            description=(
                "Where the record goes: `stdout` (a container's log, or under systemd the journal), `file`, "
                "`syslog` (the service of [syslog]), or `journal`, systemd's, where each line has fields to "
                "search by (`journalctl MAILREEVE_QUEUE_ID=...`)."
            )
        ),
    ] = "stdout"
    file: Annotated[
        str, Meta(description='The file, with `to = "file"`; it is opened anew when it was rotated.')
    ] = "/var/log/mailreeve/audit.jsonl"
    max_line_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=32_768,
            description=(
                "A line of the record that would be longer has shorter texts and lists, and says so "
                "(`truncated`). More than 4096 is for `file` and `journal` alone: in a pipe the lines of "
                "several workers would mix, and log services cut."
            ),
        ),
    ] = 4096
    bounds_a_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                "Of each bound that peers overrun (a connection that is closed, a command that is refused) a "
                "worker writes at most so many lines a minute, to the record and to the log: nobody fills a "
                "disk that way. The next line says how many were left out; the metrics count all."
            ),
        ),
    ] = 10


class Log(Section, frozen=True):
    """What the daemons say of themselves: starts, reloads, trouble (docs/log-messages.md)."""

    to: Annotated[
        Literal["stderr", "syslog"],
        Meta(
            description=(
                "Where it goes: standard error, which systemd hands to the journal with its level, or the "
                "service of [syslog]. What a daemon says before it has read this file goes to standard error."
            )
        ),
    ] = "stderr"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="`text` for people; `json`, an object a line, for programs that collect logs."),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(
            description=(
                "The least that is said: `warning` leaves out starts, reloads and clients that came and went."
            )
        ),
    ] = "info"


class Syslog(Section, frozen=True):
    """The log service of `audit.to = "syslog"` and `log.to = "syslog"`."""

    address: Annotated[
        str,
        Meta(
            description=(
                "`unix:/dev/log`, this machine's, or `udp:192.0.2.9:514`, an IP address and a port "
                "(RFC 5424; datagrams that are lost are lost, and everybody on the way can read them)."
            )
        ),
    ] = "unix:/dev/log"
    facility: Annotated[
        Literal[
            "user",
            "mail",
            "daemon",
            "auth",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ],
        Meta(description="What the service sorts by; also in the journal (SYSLOG_FACILITY)."),
    ] = "mail"


class Metrics(Section, frozen=True):
    """Numbers for Prometheus, and whether the daemons are well, over HTTP (docs/metrics.md)."""

    policyd_listen: Annotated[
        str,
        Meta(
            description=(
                "Where the policy daemon answers `/metrics`, `/healthz` and `/readyz`, for instance "
                "`inet:8925@127.0.0.1`. Empty means nowhere, and nothing is counted. It asks nobody who "
                "they are: listen where only those come who may know. With `mailreeve run` each address "
                "that is given tells the numbers of both daemons: give one."
            )
        ),
    ] = ""
    milter_listen: Annotated[
        str, Meta(description="Where the milter does, for instance `inet:8926@127.0.0.1`.")
    ] = ""
