"""Everything that needs only the envelope (RFC 5321 section 2.3.1)."""

__version__ = "0.1.0"
