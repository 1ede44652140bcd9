"""SPF macros: RFC 7208 section 7, text to text.

Must not know records, DNS or pyspf; the value of each letter comes from who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

MAX_NAME_OCTETS = 253
"""Longer names lose labels from the left (section 7.3)."""

# macro-expand = "%{" macro-letter transformers *delimiter "}" / "%%" / "%_" / "%-" (section 7.1).
# A number of parts is not zero; four digits are more than any name has labels.
_MACRO = re.compile(r"%(?:\{([slodiphcrtv])(0{0,3}[1-9]\d{0,3})?(r?)([.\-+,/_=]*)\}|([%_-]))", re.IGNORECASE)
# macro-string = *( macro-expand / %x21-24 / %x26-7E ); explain-string = *( macro-string / SP ) (section 12)
_MACRO_STRING = re.compile(rf"(?:{_MACRO.pattern}|[!-$&-~])*", re.IGNORECASE)
_EXPLAIN_STRING = re.compile(rf"(?:{_MACRO.pattern}|[ -$&-~])*", re.IGNORECASE)
_SENDER_MACRO = re.compile(r"%\{[sl]", re.IGNORECASE)

_PLAIN = {"%": "%", "_": " ", "-": "%20"}
_EXPLANATION_ONLY = frozenset("crt")

Values = Callable[[str], str]
"""A lower-case macro letter to its value."""


class MacroError(ValueError):
    """Text that is no macro-string, or a macro that may not stand there."""


def require_macro_string(text: str) -> None:
    """Nothing, for a macro-string.

    Raises:
        MacroError: for any other text.
    """
    if _MACRO_STRING.fullmatch(text) is None:
        raise MacroError(f"wrong macro in {text}")


def names_sender(text: str) -> bool:
    """Does the text use the sender or its local part? Then RFC 8616 section 4 has a word to say."""
    return _SENDER_MACRO.search(text) is not None


def require_name(text: str) -> None:
    """Nothing, for a domain-spec as far as its macros go.

    Raises:
        MacroError: no macro-string, or one with a macro that stands only in explanations.
    """
    require_macro_string(text)
    for match in _MACRO.finditer(text):
        if match[1] and match[1].lower() in _EXPLANATION_ONLY:
            raise MacroError(f"macro {match[0]} stands only in explanations")


def expand_name(text: str, values: Values) -> str:
    """A domain-spec, for which `require_name` holds, as the name to ask for, without a final dot."""
    name = _MACRO.sub(lambda match: _expand(match, values), text) if "%" in text else text
    name = name.removesuffix(".")
    while len(name) > MAX_NAME_OCTETS and "." in name:
        name = name.partition(".")[2]
    return name


def expand_explanation(text: str, values: Values) -> str:
    """An explanation (section 6.2).

    Raises:
        MacroError: no explain-string.
    """
    if _EXPLAIN_STRING.fullmatch(text) is None:
        raise MacroError("wrong macro in the explanation")
    return _MACRO.sub(lambda match: _expand(match, values), text)


def _expand(match: re.Match[str], values: Values) -> str:
    """Section 7.3."""
    letter, count, reverse, delimiters, plain = match.groups()
    if plain:
        return _PLAIN[plain]
    value = values(letter.lower())
    if count or reverse or delimiters:
        parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
        parts = parts[::-1] if reverse else parts
        value = ".".join(parts[-int(count) :] if count else parts)
    return quote(value, safe="-._~", errors="replace") if letter.isupper() else value
