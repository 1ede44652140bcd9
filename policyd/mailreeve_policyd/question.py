"""A request on its way between the sockets and the door. Knows neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

ConnectionT = TypeVar("ConnectionT")


@dataclass(slots=True, eq=False)
class Question(Generic[ConnectionT]):
    """What one connection asks. Once it was tried to answer it, one of the last three is set.

    `wait_for` must be done first, in a thread that may wait: then the question is asked again. An `error`
    ends the connection without an answer: ProtocolError is the client's, any other is a bug of ours.
    """

    connection: ConnectionT
    attributes: Mapping[str, str]
    answer: bytes | None = None
    error: Exception | None = None
    wait_for: Callable[[], None] | None = None


class Answerer(Protocol[ConnectionT]):
    """What the sockets bring questions to."""

    def connection(self) -> ConnectionT:
        """The memory of a new connection. It asks one question at a time."""

    def answer_each(self, questions: Sequence[Question[ConnectionT]]) -> None:
        """Try to answer each. May block; is called in several threads, never twice with one connection."""
