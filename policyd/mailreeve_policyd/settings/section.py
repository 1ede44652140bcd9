"""What tables of mailreeve.toml share."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

StageName = Literal["connect", "helo", "mail", "rcpt", "data", "end-of-message"]
"""The stages of a mail transaction, in order."""

# what both daemons have

WorkerCount = Annotated[int, Meta(ge=0, le=64, description="Worker processes; 0 means one a core.")]

WorkerMemory = Annotated[
    int,
    Meta(
        ge=0,
        description=(
            "A worker whose memory (RSS, in MB of 2^20 octets) is larger is replaced in the same way. 0 "
            "means never."
        ),
    ),
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""
