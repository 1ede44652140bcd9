"""[milter]: the daemon that sees messages."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.section import Section, StageName, WorkerCount, WorkerMemory


class Milter(Section, frozen=True):
    """The milter (`mailreeve milter`)."""

    engine: Annotated[
        Literal["libmilter", "native"],
        Meta(
            description=(
                "What speaks to the MTA: `native`, our own protocol code, or `libmilter` (Sendmail's "
                "library by pymilter), which takes more of the processor and lets only some ten messages "
                "of a worker wait for DNS at once."
            )
        ),
    ] = "native"

    listen: Annotated[
        str,
        Meta(
            description=("Where the MTA's smtpd_milters finds the daemon: `unix:/path` or `inet:port@host`.")
        ),
    ] = "unix:/run/mailreeve/milter.sock"
    socket_mode: Annotated[str, Meta(description="Permissions of a unix socket, octal.")] = "0660"
    socket_group: Annotated[
        str,
        Meta(
            description=(
                "The group of a unix socket, such as `postfix`, which `socket_mode` lets in. Empty means "
                "the daemon's own. Who is not root must be in it. A socket that systemd opens has the "
                "SocketGroup= and SocketMode= of its unit."
            )
        ),
    ] = ""
    decides: Annotated[
        tuple[StageName, ...],
        Meta(
            description=(
                "The stages that this daemon decides. Without a policy protocol (Sendmail) the milter "
                "decides all of them."
            )
        ),
    ] = ("end-of-message",)
    workers: WorkerCount = 1
    recycle_after_messages: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker that has answered so many messages is replaced: another serves first, then it "
                "finishes what it holds. 0 means never."
            ),
        ),
    ] = 0
    max_worker_memory_mb: WorkerMemory = 300
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description=(
                "Connections that a worker serves at once; further ones wait in the socket's backlog, and "
                "with libmilter are closed, so that the MTA does its default action. Ten times what Postfix "
                "opens by default (default_process_limit, 100)."
            ),
        ),
    ] = 1000
    idle_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=86_400.0,
            description=(
                "A connection on which the MTA says nothing for so long is closed. Two hours and a little, "
                "libmilter's own time: an MTA is silent while its client takes its time."
            ),
        ),
    ] = 7210.0
    packet_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description=(
                "An MTA that takes longer to send one packet of the protocol, or to take its answer, is "
                "disconnected (native engine). As long as Postfix waits for the longest answers "
                "(milter_content_timeout, 300s)."
            ),
        ),
    ] = 300.0
    total_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=604_800.0,
            description=(
                "A connection is closed after so long, but never while a message is being judged (native "
                "engine). No SMTP session lasts a day."
            ),
        ),
    ] = 86_400.0
    max_packet_bytes: Annotated[
        int,
        Meta(
            ge=65_535,
            le=16_777_215,
            description=(
                "An MTA that sends a larger header field or piece of the body is disconnected, and its mail "
                "deferred: never less than Postfix's header_size_limit (102400). Packets of commands and "
                "macros have at most 65535 octets."
            ),
        ),
    ] = 1_048_575
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                "Messages that a worker of the native engine judges at once, each in a thread, as they wait "
                "for DNS or the limit store; further ones wait their turn. As many as Postfix has smtpd "
                "processes by default (default_process_limit, 100)."
            ),
        ),
    ] = 100
    max_header_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description=(
                "Octets of header that are looked at. A message with more is treated as one whose "
                "checks cannot be done: "
                "`on_unknown` applies."
            ),
        ),
    ] = 1_048_576
    max_header_fields: Annotated[
        int,
        Meta(
            ge=100,
            le=1_000_000,
            description=(
                "Header fields that are looked at, of which each takes 250 octets of memory, however short "
                "it is. A message with more is treated as one with more than `max_header_bytes`."
            ),
        ),
    ] = 20_000
    max_recipients: Annotated[
        int,
        Meta(
            ge=100,
            le=1_000_000,
            description=(
                "Recipients of one message; further ones are deferred (452 4.5.3), and clients send them a "
                "message of their own. Not below what the MTA takes: its own bound (Postfix's "
                "smtpd_recipient_limit, 1000) costs less."
            ),
        ),
    ] = 50_000
    max_added_fields: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                "Header fields that rules add to one message before its end; further ones are left out. A "
                "rule at rcpt may add another one for each recipient, and how many there are the client "
                "chooses."
            ),
        ),
    ] = 100
