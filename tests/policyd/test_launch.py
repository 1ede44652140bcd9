"""What both daemons do before they serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailreeve_policyd.config import Configuration, parse_configuration
from mailreeve_policyd.crew import Generation
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.launch import log_to_stderr, logging_as_told
from mailreeve_policyd.operational_log import OWN_LOGGERS


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger; it and our own are afterwards as they were."""
    root, *ours = (logging.getLogger(name) for name in (None, *OWN_LOGGERS))
    handlers, levels = root.handlers[:], [one.level for one in (root, *ours)]
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    for one, level in zip((root, *ours), levels, strict=True):
        one.setLevel(level)


@dataclass
class Loaded:
    configuration: Configuration


def load(text: str) -> Generation[Loaded]:
    configuration = parse_configuration(text.encode(), Path("mailreeve.toml"))
    return Generation((), 0o660, 1, 1.0, None, Loaded(configuration))


def test_the_log_follows_a_configuration_that_was_read_and_stays_after_a_mistake(
    root_logger: logging.Logger,
) -> None:
    """A reload may change it, as all else; one that fails changes nothing, and says so in the old form."""
    log_to_stderr("policyd")
    before = root_logger.handlers[0]
    with pytest.raises(ConfigError):
        logging_as_told("policyd", lambda: load("nonsense = 1"))()
    assert root_logger.handlers == [before]
    logging_as_told("policyd", lambda: load('[log]\nlevel = "error"'))()

    assert root_logger.handlers != [before]
    assert not logging.getLogger("mailreeve_policyd.x").isEnabledFor(logging.WARNING)
