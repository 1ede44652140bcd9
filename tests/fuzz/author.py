"""Any header has an author with a domain and one From field, or a problem; never both.

The address is printable, and what encoded words hide is looked at, whatever it is.
"""

from mailreeve_milter.author import extract_author
from mailreeve_milter.encoded_words import decode_words
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.smtp import parse_domain

WORDS = (
    b"From: ",
    b"bob@example.org",
    b"<bob@example.org>",
    b'"Bob, B." ',
    b"=?utf-8?B?PGV2ZUBldmlsLmV4YW1wbGU+?=",
    b"=?utf-8?Q?=40?=",
    b"(comment (in) a comment)",
    b"group: ",
    b";",
    b"\r\n ",
    b", ",
    b"\\",
    b"xn--",
    "ü".encode(),
    "\uff20".encode(),
)


def check(data: bytes) -> None:
    """See the module. Lines that do not begin with a space are fields of their own, From unless they say."""
    decode_words(decode_wire(data))
    fields = [_field(text) for text in data.split(b"\n\n")]
    author = extract_author(fields)
    assert (author.mailbox is None) == (author.problem is not None)
    if author.mailbox is None:
        return
    domain = author.domain
    assert domain is not None
    assert parse_domain(domain) == domain
    assert str(author.mailbox).isprintable()
    assert sum(field.lower_name == b"from" for field in fields) == 1


def _field(text: bytes) -> HeaderField:
    name, colon, value = text.partition(b":")
    return HeaderField(name, value) if colon and name.isalpha() else HeaderField(b"From", text)
