"""The signing keys that a configuration names: key table and signing table, read and put together.

Knows the configuration; who signs with what is signing_table.py's, files are key_file.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network

from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.sign import NEVER_SIGNED, SIGNED_NAMES, SigningKey, SigningOptions
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.opendkim import load_tables
from mailreeve_milter.signing_table import AuthorTable, KeyForAny, SigningKeys, SigningRule
from mailreeve_policyd.address_pattern import ANY, parse_address_pattern, parse_glob
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.settings import Signing
from mailreeve_policyd.smtp import parse_domain


def load_signing_keys(configuration: Configuration) -> SigningKeys:
    """Read `[signing]`: every key file and table that it names, each once.

    Domains, selectors and patterns were checked when the configuration was read.

    Raises:
        ConfigError: a file cannot be read by the daemon's user, or can be read or changed by others,
            or holds no usable key; a table has a mistake; a field cannot be signed.
    """
    files = KeyFiles()
    options = signing_options(configuration)
    keys, for_any = _load_keys(configuration, files)
    return SigningKeys(
        keys,
        options,
        for_any=for_any,
        rules=_rules(configuration, options),
        tables=_tables(configuration, files),
    )


def _load_keys(configuration: Configuration, files: KeyFiles) -> tuple[list[SigningKey], list[KeyForAny]]:
    keys: list[SigningKey] = []
    for_any: list[KeyForAny] = []
    for index, setting in enumerate(configuration.settings.signing.keys):
        where = (str(configuration.path), f"signing.keys[{index}].file")
        private = files.load(configuration.resolve(setting.file), where)
        selector = parse_domain(setting.selector)
        if setting.domain == ANY:
            for_any.append(KeyForAny(selector, private))
        else:
            keys.append(SigningKey(parse_domain(setting.domain), selector, private))
    return keys, for_any


def _tables(configuration: Configuration, files: KeyFiles) -> tuple[AuthorTable, ...]:
    tables = configuration.settings.signing.opendkim
    if not tables.signing_table:
        return ()
    folder = configuration.path.parent
    return (
        load_tables(
            tables.key_table, tables.signing_table, folder, files, multiple=tables.multiple_signatures
        ),
    )


def signing_options(configuration: Configuration) -> SigningOptions:
    """How to sign where no rule says otherwise.

    Raises:
        ConfigError: a list names a field that must not be signed, or no field name.
    """
    signing = configuration.settings.signing
    return _options(configuration, "signing", signing, SigningOptions())


def _rules(configuration: Configuration, default: SigningOptions) -> list[SigningRule]:
    rules = []
    for index, rule in enumerate(configuration.settings.signing.rules):
        place = f"signing.rules[{index}]"
        domains = rule.domains
        rules.append(
            SigningRule(
                tuple(parse_address_pattern(text) for text in rule.authors),
                tuple(parse_glob(text) for text in rule.logins),
                tuple(ip_network(text) for text in rule.networks),
                None if domains is None else tuple(parse_domain(text) for text in domains),
                frozenset(parse_domain(text) for text in rule.selectors),
                _options(configuration, place, rule, default),
            )
        )
    return rules


def _options(
    configuration: Configuration, place: str, told: Signing | Signing.Rule, default: SigningOptions
) -> SigningOptions:
    """What is told, and for the rest the default."""
    header, body = default.header, default.body
    if told.canonicalization is not None:
        header, body = (Canonicalization(word) for word in told.canonicalization.split("/"))
    names, oversign = default.names, default.oversign
    if told.header_fields is not None:
        names = _field_names(configuration, f"{place}.header_fields", told.header_fields) or SIGNED_NAMES
    if told.oversign is not None:
        oversign = _field_names(configuration, f"{place}.oversign", told.oversign)
    valid_for = default.valid_for
    if told.valid_hours is not None:
        valid_for = timedelta(hours=told.valid_hours) or None
    return SigningOptions(oversign, names, header, body, valid_for)


def _field_names(configuration: Configuration, place: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    names = []
    for text in texts:
        name = text.lower()
        if not name or not all("!" <= character <= "~" and character not in ":;" for character in name):
            problem, hint = f"{text!r} is no header field name", "write names such as Subject"
        elif name.encode() in NEVER_SIGNED:
            problem, hint = f"{text} changes on the way and must not be signed", "remove it from the list"
        else:
            names.append(name.encode())
            continue
        raise ConfigError(str(configuration.path), place, problem, hint)
    return tuple(names)
