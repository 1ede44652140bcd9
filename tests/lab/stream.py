"""Several clients that hand in mail without pause, and what became of each message."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from tests.lab.delivered import read_delivered
from tests.lab.outside import compose
from tests.lab.site import ALICE, LAPTOP, Site
from tests.lab.smtp import RawClient, Reply, SmtpError

SENDER, MAILBOX = "alice@example.org", "bob@example.org"
SESSION_MESSAGES = 5  # then the client comes again: a reload must get sessions to move
MOST_TRIES = 200


class Stream:
    """Alice's mail to bob on `connections` at once. `taken` are the subjects that Postfix took.

    A message that is deferred (4xx, or a session that ended) is tried again, and noted in `deferred`.
    """

    def __init__(self, site: Site, connections: int = 6) -> None:
        self.taken: set[str] = set()
        self.deferred: list[str] = []
        self._site = site
        self._connections = connections
        self._numbers = count(1)
        self._lock = threading.Lock()

    def run(self, meanwhile: Callable[[], None], at_least: int) -> None:
        """Send until `meanwhile` has returned, and so many messages as were wanted."""
        over = threading.Event()
        with ThreadPoolExecutor(self._connections) as pool:
            senders = [pool.submit(self._send_until, over, at_least) for _ in range(self._connections)]
            try:
                meanwhile()
            finally:
                over.set()
            for sender in senders:
                sender.result()

    def _send_until(self, over: threading.Event, at_least: int) -> None:
        while not over.is_set() or len(self.taken) < at_least:
            self._send_some([f"number {next(self._numbers)}" for _ in range(SESSION_MESSAGES)])

    def _send_some(self, subjects: list[str]) -> None:
        """In one session, or in as many as it takes."""
        for _ in range(MOST_TRIES):
            try:
                with self._site.session(LAPTOP, ALICE) as session:
                    while subjects and self._send(session, subjects[0]):
                        subjects.pop(0)
            except (SmtpError, ConnectionError) as error:
                self._note(f"{subjects[0]}: {error}")
            if not subjects:
                return
        raise AssertionError(f"never taken: {subjects}")

    def _send(self, session: RawClient, subject: str) -> bool:
        replies = session.mail(SENDER, [MAILBOX], compose(SENDER, MAILBOX, subject, "Hi."))
        if bad := [reply for reply in replies if not reply.ok]:
            self._note(f"{subject}: {_temporary(bad[0])}")
            return False
        with self._lock:
            self.taken.add(subject)
        return True

    def _note(self, what: str) -> None:
        with self._lock:
            self.deferred.append(what)

    def check_delivered(self) -> None:
        """Each message that was taken lies in the mailbox once, and signed twice; no other does."""
        files = self._site.postfix.delivered_wait(MAILBOX, len(self.taken), 60.0)
        found: Counter[str] = Counter()
        for message in map(read_delivered, files):
            [subject] = message.values("Subject")
            assert message.added == ["DKIM-Signature"] * 2, (subject, message.top)
            found[subject] += 1
        assert found == Counter(self.taken)


def _temporary(reply: Reply) -> Reply:
    assert re.match("4", str(reply)), f"refused for good: {reply}"
    return reply
