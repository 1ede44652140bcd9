"""MethodResult: the one form of every check's outcome, in the words of RFC 8601."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


# Five of them a message: a dataclass takes eight times as long to make. The record holds them as they are,
# without the parts that are not there.
class MethodResult(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One `resinfo` of RFC 8601 section 2.2.

    `method` is a registered name (spf, dkim, dmarc, arc, iprev), `result` one of its result words
    (section 2.7), `properties` are ptype.property to value in the order in which they are written
    (`{"smtp.mailfrom": "bob@example.org"}`), values unescaped. `reason` is for people.
    """

    method: str
    result: str
    properties: Mapping[str, str] = {}
    reason: str | None = None


def results_of(results: Iterable[MethodResult], method: str) -> tuple[MethodResult, ...]:
    """Those of one method, in order."""
    return tuple(result for result in results if result.method == method)
