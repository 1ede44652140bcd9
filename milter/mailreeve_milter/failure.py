"""What both doors do with a bug, or with an MTA that breaks the protocol: say it in the log.

Must not know how a door answers.
"""

from __future__ import annotations

import logging

from mailreeve_policyd.errors import ProtocolError

log = logging.getLogger(__name__)


def log_failure(queue_id: str, error: Exception) -> None:
    """One line for the log; a bug of ours with its traceback. `queue_id` is escaped already."""
    extra = {"queue_id": queue_id}
    if isinstance(error, ProtocolError):
        log.warning("%s: the MTA breaks the milter protocol: %s", queue_id, error, extra=extra)
    else:
        log.error(
            "%s: an error inside the milter, its mail is deferred", queue_id, exc_info=error, extra=extra
        )


def log_unrecorded(queue_id: str, error: Exception) -> None:
    """The record has no line of the failure, either."""
    log.error("%s: the error could not be recorded", queue_id, exc_info=error, extra={"queue_id": queue_id})
