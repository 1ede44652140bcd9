"""`mailreeve policyd`: from the configuration to workers that answer Postfix. Only puts parts together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mailreeve_policyd.audit import open_audit_log
from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.blocks import Gather
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.descriptors import allow_connections
from mailreeve_policyd.door import PolicyDoor
from mailreeve_policyd.evidence import gather_envelope_evidence
from mailreeve_policyd.facts import Door
from mailreeve_policyd.forking import spare_the_collector
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.launch import (
    generation_of,
    load_as_the_daemon,
    load_rules,
    log_to_stderr,
    logging_as_told,
)
from mailreeve_policyd.limits_open import open_store
from mailreeve_policyd.metrics import metrics_of
from mailreeve_policyd.metrics_daemon import run_measured
from mailreeve_policyd.notices_open import noticing, open_office
from mailreeve_policyd.peer import Bounds, Complaints
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.postfix import RequestBounds
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.resolver_budget import budgets
from mailreeve_policyd.resolver_dns import open_resolver
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.followed import FollowedRules
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.server import PolicyServer
from mailreeve_policyd.settings import Policyd as PolicydSettings
from mailreeve_policyd.supervisor import DaemonSpec, Generation
from mailreeve_policyd.transaction import Evidence, Transaction
from mailreeve_policyd.watched_files import watch
from mailreeve_policyd.worker import WorkerContext

__all__ = ["load_policyd", "load_rules", "run_policyd", "serve_policyd"]

COLLECT_AFTER = 50_000
"""Objects with references that come on top before the garbage collector looks: Python's 700 are two batches
of requests."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one reading of the files came to."""

    configuration: Configuration
    ruleset: Ruleset


def run_policyd(config_path: Path) -> int:
    """Run the policy daemon until it is told to stop; the exit status, 78 for a mistake in its files."""
    log_to_stderr("policyd")
    daemon = policyd_spec(config_path)
    return run_measured(config_path, replace(daemon, load=logging_as_told("policyd", daemon.load)))


def policyd_spec(config_path: Path) -> DaemonSpec[Loaded]:
    """The policy daemon, for the supervisor."""
    return DaemonSpec("policyd", lambda: load_policyd(config_path), serve_policyd)


def load_policyd(config_path: Path) -> Generation[Loaded]:
    """Read the configuration and the rules, whose `expect` lines run.

    Raises:
        ConfigError: a mistake in either; nothing was changed.
    """
    return load_as_the_daemon(config_path, _load)


def _load(configuration: Configuration) -> Generation[Loaded]:
    ruleset = load_rules(configuration)
    return generation_of(configuration, "policyd", Loaded(configuration, ruleset), ruleset)


def serve_policyd(worker: WorkerContext, loaded: Loaded, sockets: Sequence[socket.socket]) -> None:
    """Be one worker: answer on these sockets until the supervisor retires it."""
    configuration = loaded.configuration
    settings = configuration.settings
    allow_connections(settings.policyd.max_connections, "policyd.max_connections")
    metrics = metrics_of(worker.tally, "policyd")
    audit = open_audit_log(configuration, "policyd", metrics.observe, metrics.bound_exceeded)
    audit.reopen()
    store = metrics.timed(open_store(configuration))
    rules = FollowedRules(loaded.ruleset)
    resolver = open_resolver(configuration, metrics.dns_asked)
    policy = Policy(
        rules,
        store,
        Door.POLICY,
        OnUnknown(settings.on_unknown),
        rules_time=RulesTime(settings.deciding.max_rules_seconds),
        overran=audit.overrun,
    )
    office = open_office(configuration, "policyd")
    door = PolicyDoor(
        policy=noticing(configuration, policy, office, store, Door.POLICY),
        needs=rules.needs,
        decides=configuration.stages("policyd"),
        gather=_gatherer(configuration, resolver, audit.overrun),
        audit=audit,
    )
    server = PolicyServer(
        sockets,
        door,
        settings.policyd.max_connections,
        bounds_of(settings.policyd),
        begin_thread=lambda: resolver.never_wait_in(threading.get_ident()),
        is_alone=settings.policyd.workers == 1,
        complaints=Complaints(audit.overrun, settings.audit.bounds_a_minute),
        max_waiting=settings.policyd.max_waiting,
    )
    spare_the_collector(COLLECT_AFTER)  # a request leaves no cycles
    watch(rules.files)
    metrics.follow(dns=resolver.statistics, store=store, records=audit.counts, notices=office.counters)
    worker.count_by(audit.counts.recorded)
    worker.serving(server.retire, audit.reopen, server.post)
    try:
        server.serve()
    finally:
        office.close(worker.seconds_left)
        store.close()
        audit.close()
        metrics.finish()


def bounds_of(settings: PolicydSettings) -> Bounds:
    """What one connection may take."""
    return Bounds(
        settings.idle_timeout_seconds,
        settings.request_timeout_seconds,
        settings.total_timeout_seconds,
        RequestBounds(settings.max_request_bytes, settings.max_line_bytes, settings.max_attributes),
    )


def _gatherer(
    configuration: Configuration, resolver: Resolver, overran: Callable[[Overrun], object]
) -> Gather:
    resolver_for = budgets(resolver, configuration.settings.dns, overran)
    relays = NetworkSet(configuration.relay_networks)

    def gather(transaction: Transaction, needs: frozenset[str]) -> Evidence:
        client = transaction.session.client_address
        if client is not None and client in relays:  # whose mail it is, only the message says
            return transaction.evidence or Evidence()
        return gather_envelope_evidence(transaction, needs, resolver_for(transaction))

    return gather
