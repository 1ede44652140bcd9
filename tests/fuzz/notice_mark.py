"""No EHLO name that a stranger makes up is a mark of our notices, nor is one of ours that was changed."""

from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notices_mark import PREFIX, NoticeMarks, make_mark, may_be_marked
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.transaction import Session
from tests.fuzz.pieces import text

WORDS = (PREFIX.encode(), b".mx.example.org", b"a" * 51, b"7", b"=", "\u0131".encode(), "\u00df".encode())

_NOW = 1e9
_SECRET = b"0123456789abcdef"
_OTHERS = b"fedcba9876543210"
_RECIPIENT = "root@example.org"
_MARKS = NoticeMarks(lambda: _SECRET, MemoryStore(lambda: _NOW), Door.POLICY, NetworkSet([]), lambda: _NOW)


def check(data: bytes) -> None:
    """See the module. The octets are a name, and changes of a mark."""
    told = text(data)
    assert isinstance(may_be_marked(Session(helo_name=told)), bool)
    assert _MARKS._nonce(told, _RECIPIENT) is None
    mark = make_mark(_SECRET, _RECIPIENT, _NOW)
    assert _MARKS._nonce(PREFIX + mark, _RECIPIENT) is not None
    assert _MARKS._nonce(PREFIX + make_mark(_OTHERS, _RECIPIENT, _NOW), _RECIPIENT) is None
    if told.lower() != _RECIPIENT:
        assert _MARKS._nonce(PREFIX + mark, told) is None
    at = sum(data) % (len(mark) - 1)  # the last sign has bits that mean nothing
    if data and chr(data[0]).lower() != mark[at]:
        assert _MARKS._nonce(PREFIX + mark[:at] + chr(data[0]) + mark[at + 1 :], _RECIPIENT) is None
