"""The tag=value lists (RFC 6376 section 3.2) of signatures and key records, and the base64 in their values.

Read here and not by dkimpy, which takes three times as long for a list, looks at a name's first letter
alone, and takes more than white space off values. It is the oracle of the tests where it is right.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable

from mailreeve_milter.message import unfold
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import decode_wire

MAX_OCTETS = 65_536
"""A list with more is refused unread: room for a z= that copies a large header, and no work for more."""

MAX_PADDING = 2
"""Signs "=" at the end of base64 (RFC 4648 section 4)."""

MAX_TAGS = 64
"""The registries know 14 tags of signatures and 7 of key records."""

# tag-name = ALPHA *(ALPHA / DIGIT / "_")
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_KNOWN_NAMES = frozenset(("bh", *"vabcdhilqstxzknp"))
# what stands in no tag-list once FWS is unfolded: controls but HTAB
_CONTROLS = bytes(octet for octet in (*range(0x20), 0x7F) if octet != ord("\t"))


def parse_tag_list(raw: bytes) -> dict[str, str]:
    """Tag names to values in their order, values without white space around them, otherwise as written.

    `raw` may be folded. Octets that are not ASCII stay (RFC 8616), as `decode_wire` gives them.

    Raises:
        ProtocolError: no tag-list, a tag twice, a control character, or more than the bounds allow.
    """
    unfolded = unfold(raw)
    octets = len(unfolded)
    if octets > MAX_OCTETS:
        raise ProtocolError("the tag list is too long")
    if len(unfolded.translate(None, _CONTROLS)) != octets:
        raise ProtocolError("the tag list holds a control character")
    specs = decode_wire(unfolded).split(";", MAX_TAGS + 1)
    if len(specs) > MAX_TAGS + 1:
        raise ProtocolError("the tag list is too long")
    if not specs[-1].strip(" \t"):  # tag-list = tag-spec *( ";" tag-spec ) [ ";" ]
        specs.pop()
    tags = _parse_specs(specs)
    if not tags:
        raise ProtocolError("not a tag list")
    if not tags.keys() <= _KNOWN_NAMES and not all(map(_TAG_NAME.match, tags)):
        raise ProtocolError("a tag has no proper name")
    return tags


def _parse_specs(specs: Iterable[str]) -> dict[str, str]:
    """The tags of a list that was cut at its semicolons."""
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")  # [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
        name = name.strip(" \t")
        if not equals:
            raise ProtocolError("not a tag list")
        if name in tags:
            raise ProtocolError("a tag is given twice")
        tags[name] = value.strip(" \t")
    return tags


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
    digits = text.rstrip("=")
    if len(text) - len(digits) > MAX_PADDING:
        raise ProtocolError("not base64")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    except ValueError as error:  # binascii.Error, or characters that are not ASCII
        raise ProtocolError("not base64") from error
