"""Everything that needs the message."""
