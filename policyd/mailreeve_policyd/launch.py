"""What both daemons do before they serve: the log, the rules, what the supervisor needs of the settings."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal, TypeVar

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.limits_open import check_store
from mailreeve_policyd.listen import HINT, Address, parse_listen
from mailreeve_policyd.privileges import find_account
from mailreeve_policyd.rules import Ruleset, load_ruleset
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.supervisor import Generation

LoadedT = TypeVar("LoadedT")

DaemonName = Literal["policyd", "milter"]


class _LowerCaseLevel(logging.Formatter):
    """`warning`, as mail servers write it, and not `WARNING`."""

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def log_to_stderr(daemon: DaemonName) -> None:
    """One line an event on standard error: when, which process, how bad, what."""
    handler = logging.StreamHandler(sys.stderr)
    form = f"%(asctime)s mailreeve {daemon}[%(process)d] %(levelname)s: %(message)s"
    handler.setFormatter(_LowerCaseLevel(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def generation_of(configuration: Configuration, daemon: DaemonName, loaded: LoadedT) -> Generation[LoadedT]:
    """What the supervisor needs to know of a configuration, with what the daemon itself made of it.

    Raises:
        ConfigError: an address that is none, a user or group that this machine does not have, a URL of
            Redis that cannot be used.
    """
    check_store(configuration)
    settings = configuration.settings
    section = settings.policyd if daemon == "policyd" else settings.milter
    file = str(configuration.path)
    return Generation(
        listen=_addresses(section.listen, file, f"{daemon}.listen"),
        socket_mode=int(section.socket_mode, 8),
        workers=section.workers or _cores(),
        drain_seconds=settings.drain_seconds,
        account=find_account(settings.user, settings.group, file),
        loaded=loaded,
    )


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
    return load_ruleset(path, doors_of(configuration), OnUnknown(settings.on_unknown))


def _addresses(texts: str | tuple[str, ...], file: str, key: str) -> tuple[Address, ...]:
    if isinstance(texts, str):
        return (parse_listen(texts, file, key),)
    if not texts:
        raise ConfigError(file, key, "names no address", HINT)
    return tuple(parse_listen(text, file, f"{key}[{position}]") for position, text in enumerate(texts))


def _cores() -> int:
    """Those that this process may use: a container or taskset may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
