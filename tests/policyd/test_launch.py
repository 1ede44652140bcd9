"""What both daemons do before they serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from mailreeve_policyd.launch import log_to_stderr


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_log_has_its_levels_in_lower_case_and_for_itself(root_logger: logging.Logger) -> None:
    """As mail servers write them; another handler of the same record sees what it always sees."""
    log_to_stderr("milter")
    [handler] = root_logger.handlers
    record = logging.LogRecord("name", logging.WARNING, "path", 1, "%s went by", ("mail",), None)

    assert handler.format(record).endswith(f"mailreeve milter[{record.process}] warning: mail went by")
    assert record.levelname == "WARNING"
