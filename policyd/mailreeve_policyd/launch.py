"""What both daemons do before they serve: the log, the rules, what the supervisor needs of the settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from mailreeve_policyd.config import Configuration, Settings, load_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.limits_open import check_store
from mailreeve_policyd.listen import HINT, Address, parse_listen
from mailreeve_policyd.live_open import open_live
from mailreeve_policyd.notices_open import check_notices
from mailreeve_policyd.operational_log import begin_log, follow_settings
from mailreeve_policyd.places import check_places, may
from mailreeve_policyd.privileges import Account, find_account, find_group, rights_of
from mailreeve_policyd.resolver_dns import open_resolver
from mailreeve_policyd.rules import Ruleset, load_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.regex import PatternBounds
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.supervisor import Generation
from mailreeve_policyd.worker import Wear

LoadedT = TypeVar("LoadedT")

DaemonName = Literal["policyd", "milter"]


class _Configured(Protocol):
    """What a daemon made of its files, which remembers them."""

    @property
    def configuration(self) -> Configuration: ...


ConfiguredT = TypeVar("ConfiguredT", bound=_Configured)


def log_to_stderr(daemon: str) -> None:
    """One event a line on standard error, until the configuration says otherwise."""
    begin_log(daemon)


def logging_as_told(
    daemon: str, load: Callable[[], Generation[ConfiguredT]]
) -> Callable[[], Generation[ConfiguredT]]:
    """`load`, after which the log is that of the new configuration; after a mistake it stays what it was."""

    def load_and_follow() -> Generation[ConfiguredT]:
        generation = load()
        follow_settings(daemon, generation.loaded.configuration.settings)
        return generation

    return load_and_follow


def load_as_the_daemon(path: Path, load: Callable[[Configuration], LoadedT]) -> LoadedT:
    """What `load` makes of the configuration, with the rights of the account that it names.

    A reload has no others: what root alone can read would be a mistake that the first SIGHUP tells. `load`
    may run twice: where Python itself, below /root for instance, is not the account's to read, root has
    everything imported that is needed on the way.

    Raises:
        ConfigError: as `load_configuration` and `load`, with the account's name where it was refused.
    """
    configuration = load_configuration(path)
    account = account_of(configuration)
    if not _can_import(account):
        load(configuration)
    try:
        with rights_of(account):
            return load(load_configuration(path))
    except ConfigError as error:
        if account is None or os.geteuid() != 0 or not _was_refused(error):
            raise
        error.problem += f" (for the user {account.name}, which the daemons become)"
        raise


def _can_import(account: Account | None) -> bool:
    """Are the folders from which modules came so far open to the account?"""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    folders = {os.path.dirname(file) for file in files if file}  # noqa: PTH120 -- of some hundred files
    with rights_of(account):
        return all(may(Path(folder), os.R_OK | os.X_OK) for folder in folders)


def _was_refused(error: BaseException) -> bool:
    """Is the cause, or the cause of the cause, that a file may not be used?"""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__context__
    return cause is not None


def account_of(configuration: Configuration) -> Account | None:
    """The account that the daemons become. Raises ConfigError as `find_account`."""
    settings = configuration.settings
    return find_account(settings.user, settings.group, str(configuration.path))


def generation_of(
    configuration: Configuration, daemon: DaemonName, loaded: LoadedT, ruleset: Ruleset
) -> Generation[LoadedT]:
    """What the supervisor needs to know of a configuration, with what the daemon itself made of it.

    Looks, with the rights that the process has now, at everything that a worker would stumble over.

    Raises:
        ConfigError: an address that is none, a user or group that this machine does not have, a URL of
            Redis or a DNS server that cannot be used, a folder that is missing or may not be written, a
            mistake in `[notices]`.
    """
    check_store(configuration)
    open_resolver(configuration)  # for its mistakes: each worker opens its own
    settings = configuration.settings
    section = settings.policyd if daemon == "policyd" else settings.milter
    addresses = _addresses(section.listen, str(configuration.path), f"{daemon}.listen")
    check_notices(configuration)
    check_places(configuration, counts=any(ruleset.counts(stage) for stage in Stage))
    return Generation(
        listen=addresses,
        socket_mode=int(section.socket_mode, 8),
        workers=section.workers or _cores(),
        drain_seconds=settings.drain_seconds,
        account=account_of(configuration),
        loaded=loaded,
        socket_group=find_group(section.socket_group, str(configuration.path), f"{daemon}.socket_group"),
        hung_after_seconds=settings.hung_after_seconds,
        wear=_wear(settings, daemon),
    )


def _wear(settings: Settings, daemon: DaemonName) -> Wear:
    if daemon == "policyd":
        return Wear(settings.policyd.recycle_after_requests, settings.policyd.max_worker_memory_mb << 20)
    return Wear(settings.milter.recycle_after_messages, settings.milter.max_worker_memory_mb << 20)


def doors_of(configuration: Configuration) -> dict[Stage, Door]:
    """Which daemon decides each stage, for the rules: they may ask what that daemon knows."""
    policy = dict.fromkeys(configuration.stages("policyd"), Door.POLICY)
    return policy | dict.fromkeys(configuration.stages("milter"), Door.MILTER)


def load_rules(configuration: Configuration) -> Ruleset:
    """The rules file of a configuration, for both daemons and whoever checks it; its `expect` lines run.

    Raises:
        ConfigError: a mistake in it, in a file that it names, or an `expect` that is not met.
    """
    settings = configuration.settings
    path = configuration.resolve(settings.rules)
    outside = open_outside(configuration)
    return load_ruleset(path, doors_of(configuration), OnUnknown(settings.on_unknown), outside)


_WITHOUT_ARC = "write verify = true under [arc] in mailreeve.toml"
_NO_ARC = {"arc": _WITHOUT_ARC, "arc_sealer": _WITHOUT_ARC}


def open_outside(configuration: Configuration) -> Outside:
    """What rules may ask beside the transaction. Reads the files of `[geoip]`, asks no network.

    Raises:
        ConfigError: a file that is none, or a way to Redis that cannot be used.
    """
    limits, geoip = configuration.settings.limits, configuration.settings.geoip
    deciding = configuration.settings.deciding
    outside = Outside(
        open_live(configuration),
        ipv4_prefix=limits.ipv4_prefix,
        ipv6_prefix=limits.ipv6_prefix,
        unfound={} if configuration.settings.arc.verify else _NO_ARC,
        patterns=PatternBounds(deciding.max_matched_characters, deciding.max_pattern_steps),
    )
    if not geoip.country and not geoip.asn:
        return outside
    # most hosts do without it
    from mailreeve_policyd.geography import open_asns, open_countries  # noqa: PLC0415

    countries, asns = open_countries(configuration), open_asns(configuration)
    return replace(
        outside,
        country_of=countries.find if countries else None,
        asn_of=asns.find if asns else None,
        files=tuple(places.files for places in (countries, asns) if places),
    )


def _addresses(texts: str | tuple[str, ...], file: str, key: str) -> tuple[Address, ...]:
    if isinstance(texts, str):
        return (parse_listen(texts, file, key),)
    if not texts:
        raise ConfigError(file, key, "names no address", HINT)
    return tuple(parse_listen(text, file, f"{key}[{position}]") for position, text in enumerate(texts))


def _cores() -> int:
    """Those that this process may use: a container or taskset may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
