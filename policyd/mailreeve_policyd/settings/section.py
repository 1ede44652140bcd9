"""What all tables of mailreeve.toml share."""

from __future__ import annotations

from typing import Literal

import msgspec

StageName = Literal["connect", "helo", "mail", "rcpt", "data", "end-of-message"]
"""The stages of a mail transaction, in order."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""
