"""[policyd]: the policy daemon."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mailreeve_policyd.settings.section import Section, StageName, WorkerCount, WorkerMemory


class Policyd(Section, frozen=True):
    """The policy daemon (`mailreeve policyd`)."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Where Postfix's check_policy_service finds the daemon: `unix:/path` or "
                "`inet:port@host`; several may be given."
            )
        ),
    ] = ("unix:/run/mailreeve/policy.sock",)
    socket_mode: Annotated[
        str, Meta(description=("Permissions of unix sockets, octal. Postfix's smtpd must be able to write."))
    ] = "0660"
    socket_group: Annotated[
        str,
        Meta(
            description=(
                "The group of unix sockets, such as `postfix`, which `socket_mode` lets in. Empty means "
                "the daemon's own. Who is not root must be in it. Sockets that systemd opens have the "
                "SocketGroup= and SocketMode= of their unit."
            )
        ),
    ] = ""
    decides: Annotated[
        tuple[StageName, ...],
        Meta(
            description=(
                "The stages that this daemon decides. Each stage with rules is decided by exactly one "
                "daemon, "
                "so that nothing is counted twice."
            )
        ),
    ] = ("connect", "helo", "mail", "rcpt", "data")
    workers: WorkerCount = 1
    recycle_after_requests: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker that has answered so many requests is replaced: another serves first, then it "
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
                "Connections that a worker serves at once; further ones wait in the socket's backlog."
            ),
        ),
    ] = 1000
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                "Requests of a worker that wait for DNS at once, each in a thread; further ones wait their "
                "turn. As many as Postfix has smtpd processes by default."
            ),
        ),
    ] = 100
    max_request_bytes: Annotated[
        int,
        Meta(
            ge=8192,
            le=1_048_576,
            description=(
                "A client that sends a larger request is disconnected without an answer. Postfix sends some "
                "2 KB, and 60 at most."
            ),
        ),
    ] = 65_536
    max_line_bytes: Annotated[
        int,
        Meta(
            ge=2100,
            le=1_048_576,
            description=(
                "The same for one line of it. Postfix cuts what clients say at line_length_limit (2048); "
                "names of certificates are spelt longer."
            ),
        ),
    ] = 8192
    max_attributes: Annotated[
        int,
        Meta(
            ge=50,
            le=10_000,
            description="The same for the lines of a request. Postfix sends some thirty.",
        ),
    ] = 200
    idle_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=86_400.0,
            description=(
                "A connection that asks nothing for so long is closed, so that clients that are gone do "
                "not take up places. Longer than Postfix keeps one: smtpd_policy_service_max_idle (300s) "
                "and smtpd_policy_service_max_ttl (1000s)."
            ),
        ),
    ] = 3600.0
    request_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description=(
                "A client that takes longer to send one request, or to take its answer, is disconnected. As "
                "long as Postfix itself waits (smtpd_policy_service_timeout, 100s)."
            ),
        ),
    ] = 100.0
    total_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=604_800.0,
            description=(
                "A connection is closed after so long, when what it asked is answered: nobody keeps a place "
                "for ever by asking now and then. Postfix makes a new one after "
                "smtpd_policy_service_max_ttl (1000s) anyway."
            ),
        ),
    ] = 86_400.0
