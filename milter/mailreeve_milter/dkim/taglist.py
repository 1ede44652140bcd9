"""The tag=value lists (RFC 6376 section 3.2) of signatures and key records: read by dkimpy, bounded here."""

from __future__ import annotations

import binascii
import re

from dkim.util import DuplicateTag, InvalidTagValueList, parse_tag_value

from mailreeve_milter.message import unfold
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import decode_wire

MAX_OCTETS = 65_536
"""A list with more is refused unread: room for a z= that copies a large header, and no work for more."""

MAX_TAGS = 64
"""The registries know 14 tags of signatures and 7 of key records."""

# tag-name = ALPHA *(ALPHA / DIGIT / "_")
_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z")
_KNOWN_NAMES = frozenset(b"v a b bh c d h i l q s t x z k n p".split())
# what stands in no tag-list once FWS is unfolded: controls but HTAB
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")


def parse_tag_list(raw: bytes) -> dict[str, str]:
    """Tag names to values in their order, values without white space around them, otherwise as written.

    `raw` may be folded. Octets that are not ASCII stay (RFC 8616), as `decode_wire` gives them.

    Raises:
        ProtocolError: no tag-list, a tag twice, a control character, or more than the bounds allow.
    """
    unfolded = unfold(raw)
    if len(unfolded) > MAX_OCTETS or unfolded.count(b";") > MAX_TAGS:
        raise ProtocolError("the tag list is too long")
    if _CONTROL.search(unfolded):  # dkimpy would strip some of them
        raise ProtocolError("the tag list holds a control character")
    try:
        tags: dict[bytes, bytes] = parse_tag_value(unfolded)
    except DuplicateTag as error:
        raise ProtocolError("a tag is given twice") from error
    except InvalidTagValueList as error:
        raise ProtocolError("not a tag list") from error
    if not tags:
        raise ProtocolError("not a tag list")
    if not tags.keys() <= _KNOWN_NAMES and not all(map(_TAG_NAME.match, tags)):
        raise ProtocolError("a tag has no proper name")  # dkimpy looks at the first letter only
    return {name.decode("ascii"): decode_wire(value) for name, value in tags.items()}


def split_list(value: str) -> tuple[str, ...]:
    """The items of a colon-separated value, without the white space around them."""
    return tuple(item.strip(" \t") for item in value.split(":"))


def without_blanks(value: str) -> str:
    """Without any folding white space, which means nothing inside base64 (section 2.10)."""
    return value.replace(" ", "").replace("\t", "")


def parse_base64(value: str) -> bytes:
    """The octets of a base64string (section 2.10), whose padding may be missing.

    Raises:
        ProtocolError: it is none.
    """
    text = without_blanks(value)
    if not _BASE64.match(text):
        raise ProtocolError("not base64")
    digits = text.rstrip("=")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except binascii.Error as error:
        raise ProtocolError("not base64") from error
