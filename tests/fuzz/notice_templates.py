"""Any text is a template of notices or a ConfigError with its line; its subject is one printable line."""

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.notices_text import MAX_SUBJECT, NAMES, parse_template

WORDS = (b"Subject: ", b"\n\n", b"{rule}", b"{{", b"}}", b"{used} of {maximum}", b"{text}", b"{", b"}")

_VALUES = {name: f"<{name}> {{rule}} %s" for name in NAMES}


def check(data: bytes) -> None:
    """See the module."""
    try:
        template = parse_template(data.decode("utf-8", "replace"), "notice.en.txt")
    except ConfigError:
        return
    written = template.write(_VALUES)
    assert written.subject.replace("\t", " ").isprintable()
    assert len(written.subject) <= MAX_SUBJECT
    assert "\r" not in written.body
