"""What both doors do with a bug, or with an MTA that breaks the protocol: say it in the log.

An MTA can break it as often as it likes: that is said so often a minute, and then how often it was not.
Must not know how a door answers.
"""

from __future__ import annotations

import logging

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.moderation import Moderation

log = logging.getLogger(__name__)


def may_tell(breaches: Moderation) -> bool:
    """May the log tell of one more breach of the protocol? First it tells how many it did not."""
    untold = breaches.admit("protocol")
    if untold:
        log.warning("MTAs broke the milter protocol %d more times, not told here", untold)
    return untold is not None


def log_failure(queue_id: str, error: Exception, breaches: Moderation) -> None:
    """One line for the log; a bug of ours with its traceback. `queue_id` is escaped already.

    For the first failure of a message, or of a session without one: those after it change nothing.
    """
    extra = {"queue_id": queue_id}
    if isinstance(error, ProtocolError):
        if may_tell(breaches):
            log.warning("%s: the MTA breaks the milter protocol: %s", queue_id, error, extra=extra)
    else:
        log.error(
            "%s: an error inside the milter, its mail is deferred", queue_id, exc_info=error, extra=extra
        )


def log_unrecorded(queue_id: str, error: Exception) -> None:
    """The record has no line of the failure, either."""
    log.error("%s: the error could not be recorded", queue_id, exc_info=error, extra={"queue_id": queue_id})
