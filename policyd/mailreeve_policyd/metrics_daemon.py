"""The process that tells the numbers of all others: one more child of the parent, which serves no mail.

So whoever asks, however often, costs no worker anything. Only puts parts together.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.config import Configuration, load_configuration
from mailreeve_policyd.crew import DaemonSpec, Generation
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.launch import account_of, load_as_the_daemon
from mailreeve_policyd.listen import Address, parse_listen
from mailreeve_policyd.metrics_http import MetricsServer, Page
from mailreeve_policyd.metrics_ledger import Ledger
from mailreeve_policyd.metrics_text import CONTENT_TYPE, Numbers, add_up, format_metrics
from mailreeve_policyd.supervisor import run
from mailreeve_policyd.worker import WorkerContext

log = logging.getLogger(__name__)

NAME = "metrics"

SOCKET_MODE = 0o660
"""Of a unix socket."""

DRAIN_SECONDS = 2.0

LOOKED_SECONDS = 60.0
"""A parent that has not looked at its workers for so long is not well: it looks every five seconds, but for
the time that reading a large configuration takes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one reading of the configuration came to."""

    configuration: Configuration


def run_measured(config_path: Path, *daemons: DaemonSpec[Any]) -> int:
    """supervisor.run, with a process beside them that tells their numbers, if `[metrics]` wants one."""
    names = [daemon.name for daemon in daemons]
    try:
        is_on = bool(addresses_of(load_configuration(config_path), names))
    except ConfigError:  # they meet it too, and tell it
        is_on = False
    if not is_on:
        return run(*(_unmeasured(config_path, daemon, names) for daemon in daemons))
    try:
        ledger = Ledger()
    except OSError as error:
        log.warning("there are no metrics, the system gives no memory for them: %s", error.strerror)
        return run(*daemons)
    return run(*daemons, metrics_spec(config_path, names, ledger), ledger=ledger)


def _unmeasured(config_path: Path, daemon: DaemonSpec[Any], names: Sequence[str]) -> DaemonSpec[Any]:
    """A daemon that says at a reload that it is to be measured from its next start on."""

    def load() -> Generation[Any]:
        generation = daemon.load()
        if addresses_of(load_configuration(config_path), names):
            log.warning("a changed %s takes effect at the next restart", "[metrics]")
        return generation

    return replace(daemon, load=load)


def metrics_spec(config_path: Path, daemons: Sequence[str], ledger: Ledger) -> DaemonSpec[Loaded]:
    """What serves the ledger, for the supervisor of these daemons."""

    def load() -> Generation[Loaded]:
        return load_as_the_daemon(config_path, lambda configuration: _load(configuration, daemons))

    def serve(worker: WorkerContext, _loaded: Loaded, sockets: Sequence[socket.socket]) -> None:
        server = MetricsServer(sockets, pages_of(ledger))
        worker.serving(server.retire)
        server.serve()

    return DaemonSpec(NAME, load, serve, is_vital=False)


def addresses_of(configuration: Configuration, daemons: Iterable[str]) -> tuple[Address, ...]:
    """Where `[metrics]` has these daemons tell their numbers; none where they are off."""
    settings = configuration.settings.metrics
    told = {"policyd": settings.policyd_listen, "milter": settings.milter_listen}
    return tuple(
        parse_listen(told[name], str(configuration.path), f"metrics.{name}_listen")
        for name in daemons
        if told[name]
    )


def _load(configuration: Configuration, daemons: Sequence[str]) -> Generation[Loaded]:
    return Generation(
        listen=addresses_of(configuration, daemons),
        socket_mode=SOCKET_MODE,
        workers=1,
        drain_seconds=DRAIN_SECONDS,
        account=account_of(configuration),
        loaded=Loaded(configuration),
        hung_after_seconds=configuration.settings.hung_after_seconds,
    )


def pages_of(ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> Callable[[str], Page | None]:
    """What is told at which path; `clock` is that of the parent."""

    def page(path: str) -> Page | None:
        match path:
            case "/metrics":
                return Page(200, format_metrics(add_up(ledger.read())), CONTENT_TYPE)
            case "/healthz":
                return _health(add_up(ledger.read()), clock())
            case "/readyz":
                return _readiness(add_up(ledger.read()), clock())
            case "/":
                return Page(200, b"/metrics\n/healthz\n/readyz\n")
            case _:
                return None

    return page


def _health(total: Numbers, now: float) -> Page:
    """Is the parent there, and does each daemon have a worker that answers it?"""
    workers = _workers(total)
    silent = [name for name, states in workers.items() if not states.get("answering")]
    lines = [f"{name}: no worker answers" for name in silent]
    return _page(lines + _parent(total, now), "ok")


def _readiness(total: Numbers, now: float) -> Page:
    """Do all workers serve? Of the limit store it is told how it is: mail goes on without it."""
    lines = _parent(total, now)
    remarks: list[str] = []
    for name, states in _workers(total).items():
        serving, wanted = int(states.get("serving", 0)), int(states.get("wanted", 0))
        says = f"{name}: {serving} of {wanted} workers serve"
        (lines if serving < wanted else remarks).append(says)
    for series, (away, *_) in sorted(total.items()):
        if series[0] == catalogue.STORE_AWAY.name:
            says = "away, limits do what on_unavailable says" if away else "there"
            remarks.append(f"{series[1]}: the limit store is {says}")
    return _page(lines, "ready", remarks)


def _parent(total: Numbers, now: float) -> list[str]:
    looked = total.get((catalogue.LOOKED_AT.name,))
    if looked is None:
        return ["the first workers do not serve yet"]
    return [] if now - looked[0] <= LOOKED_SECONDS else ["the parent process does not answer"]


def _workers(total: Numbers) -> dict[str, dict[str, float]]:
    """By daemon and state."""
    found: dict[str, dict[str, float]] = {}
    for series, numbers in sorted(total.items()):
        if series[0] == catalogue.WORKERS.name:
            found.setdefault(series[1], {})[series[2]] = numbers[0]
    return found


def _page(troubles: Sequence[str], well: str, remarks: Sequence[str] = ()) -> Page:
    lines = [*(troubles or [well]), *remarks]
    return Page(503 if troubles else 200, "".join(f"{line}\n" for line in lines).encode())
