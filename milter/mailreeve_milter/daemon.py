"""`mailreeve milter`: from the configuration to workers that serve the MTA. Only puts parts together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mailreeve_milter.arc_mail import ArcOptions, load_arc
from mailreeve_milter.connection_bounds import ConnectionBounds
from mailreeve_milter.dmarc import Method
from mailreeve_milter.examination import Examiner
from mailreeve_milter.keys import load_signing_keys
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.public_suffixes import load_suffixes
from mailreeve_milter.signing_table import SigningKeys
from mailreeve_milter.store_elsewhere import StoreElsewhere
from mailreeve_milter.surroundings import Decider, Surroundings, instance_names
from mailreeve_policyd.audit import AuditLog, open_audit_log
from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.descriptors import allow_connections
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
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
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.notices_open import noticing, open_office
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.resolver_budget import budgets
from mailreeve_policyd.resolver_dns import open_resolver
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.followed import FollowedRules
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.settings import Milter as MilterSettings
from mailreeve_policyd.supervisor import DaemonSpec, Generation
from mailreeve_policyd.watched_files import watch
from mailreeve_policyd.worker import WorkerContext

Engine = Callable[[WorkerContext, Surroundings, socket.socket], None]
"""Speaks the milter protocol on a listening socket until the worker is retired."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one reading of the files came to."""

    configuration: Configuration
    ruleset: Ruleset
    keys: SigningKeys
    arc: ArcOptions | None = None


def run_milter(config_path: Path) -> int:
    """Run the milter until it is told to stop; the exit status, 78 for a mistake in its files."""
    log_to_stderr("milter")
    daemon = milter_spec(config_path)
    return run_measured(config_path, replace(daemon, load=logging_as_told("milter", daemon.load)))


def milter_spec(config_path: Path) -> DaemonSpec[Loaded]:
    """The milter, for the supervisor."""
    return DaemonSpec("milter", lambda: load_milter(config_path), serve_milter)


def load_milter(config_path: Path) -> Generation[Loaded]:
    """Read the configuration, the rules (whose `expect` lines run) and the signing keys.

    Raises:
        ConfigError: a mistake in one of them; nothing was changed.
    """
    return load_as_the_daemon(config_path, _load)


def _load(configuration: Configuration) -> Generation[Loaded]:
    engine_of(configuration)  # now, so that workers share it and need none of Python's files later
    configuration.authserv_id  # noqa: B018 -- a host without a name is told now and not by each worker
    loaded = load_files(configuration)
    return generation_of(configuration, "milter", loaded, loaded.ruleset)


def load_files(configuration: Configuration) -> Loaded:
    """What a configuration names. Raises ConfigError as `load_milter`."""
    if configuration.settings.authentication.organizational_domain != Method.TREE_WALK.value:
        load_suffixes()  # here, so that workers share it
    ruleset, keys = load_rules(configuration), load_signing_keys(configuration)
    _check_added_fields(configuration, ruleset, keys)
    return Loaded(configuration, ruleset, keys, load_arc(configuration))


def _check_added_fields(configuration: Configuration, ruleset: Ruleset, keys: SigningKeys) -> None:
    """A rule's field stands above our signature: one that is oversigned would break it at once."""
    oversigned = keys.oversigned
    for rule, name in ruleset.adders(configuration.stages("milter")):
        if name.lower().encode() in oversigned:
            raise ConfigError(
                ruleset.file,
                str(rule.line),
                f"the rule {rule.name} adds {name}, and signing.oversign allows no further {name}",
                "our own signature would fail: add a field of another name, or do not oversign this one",
            )


def engine_of(configuration: Configuration) -> Engine:
    """What speaks to the MTA. Only the one that is used is loaded, and none by `mailreeve check`."""
    if configuration.settings.milter.engine == "native":
        from mailreeve_milter import engine_native  # noqa: PLC0415

        return engine_native.serve
    from mailreeve_milter import engine_libmilter  # noqa: PLC0415

    return engine_libmilter.serve


def serve_milter(worker: WorkerContext, loaded: Loaded, sockets: Sequence[socket.socket]) -> None:
    """Be one worker: serve on the one socket until the supervisor retires it."""
    configuration = loaded.configuration
    allow_connections(configuration.settings.milter.max_connections, "milter.max_connections")
    metrics = metrics_of(worker.tally, "milter")
    timed = metrics.timed(open_store(configuration))
    store = StoreElsewhere(timed)
    audit = open_audit_log(configuration, "milter", metrics.observe, metrics.bound_exceeded)
    audit.reopen()
    rules = FollowedRules(loaded.ruleset)
    policy = Policy(
        rules,
        store,
        Door.MILTER,
        OnUnknown(configuration.settings.on_unknown),
        rules_time=RulesTime(configuration.settings.deciding.max_rules_seconds),
        overran=audit.overrun,
    )
    office = open_office(configuration, "milter")
    decider = noticing(configuration, policy, office, store, Door.MILTER)
    watch(rules.files)
    try:
        worker.count_by(audit.counts.recorded)
        surroundings = surroundings_of(loaded, decider, audit, store.never_wait_in, metrics.dns_asked)
        metrics.follow(
            dns=surroundings.dns_statistics, store=timed, records=audit.counts, notices=office.counters
        )
        engine_of(configuration)(worker, surroundings, sockets[0])
    finally:
        office.close(worker.seconds_left)
        store.close()
        audit.close()
        metrics.finish()


def surroundings_of(
    loaded: Loaded,
    policy: Decider,
    audit: AuditLog,
    store_never_waits: Callable[[int], None] = lambda _thread: None,
    dns_asked: Callable[[float], None] = lambda _seconds: None,
) -> Surroundings:
    """What conversations need, with a resolver as `[dns]` says. Made in the process that uses it.

    `store_never_waits` tells the store of `policy` a thread in which it must not be waited for; `dns_asked`
    is told how long each question to a DNS server took.
    """

    def never_wait_in(thread: int) -> None:
        resolver.never_wait_in(thread)
        store_never_waits(thread)

    configuration = loaded.configuration
    stages = configuration.stages("milter")
    resolver = open_resolver(configuration, dns_asked)
    return Surroundings(
        stages,
        policy,
        make_examiner(loaded, resolver, audit.overrun),
        audit,
        instance_names(),
        {stage: loaded.ruleset.needs((stage,)) for stage in stages},
        frozenset(stage for stage in stages if loaded.ruleset.asks_live(stage)),
        never_wait_in,
        dns_statistics=resolver.statistics,
        bounds=_bounds(configuration.settings.milter),
        breaches=Moderation(configuration.settings.audit.bounds_a_minute),
    )


def _bounds(settings: MilterSettings) -> ConnectionBounds:
    return ConnectionBounds(
        settings.max_connections,
        settings.idle_timeout_seconds,
        settings.packet_timeout_seconds,
        settings.total_timeout_seconds,
        settings.max_packet_bytes,
        settings.max_waiting,
    )


def make_examiner(loaded: Loaded, resolver: Resolver, overran: Callable[[Overrun], object]) -> Examiner:
    """The examiner that a configuration describes, each message with a budget of its own."""
    configuration = loaded.configuration
    settings = configuration.settings
    return Examiner(
        authserv_id=configuration.authserv_id,
        own_networks=NetworkSet(configuration.trusted_networks),
        relays=NetworkSet(configuration.relay_networks),
        max_signatures=settings.authentication.max_signatures,
        keys=loaded.keys,
        resolver=budgets(resolver, settings.dns, overran),
        arc=loaded.arc,
        received_spf=settings.authentication.received_spf,
        organizational_domain=Method(settings.authentication.organizational_domain),
        bounds=MessageBounds(
            settings.milter.max_header_bytes,
            settings.milter.max_header_fields,
            settings.milter.max_recipients,
            settings.milter.max_added_fields,
            settings.authentication.max_results_read,
            settings.authentication.max_removed_fields,
        ),
    )
