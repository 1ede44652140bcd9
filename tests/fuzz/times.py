"""When it is, for fuzzers of what has times in it."""

from datetime import UTC, datetime

NOW = datetime(2026, 11, 23, tzinfo=UTC)
