"""What no single option of `[notices]` can say. Opens no file and asks no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from mailreeve_policyd.config_signing import Conflict
from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.listen import InetAddress, parse_listen
from mailreeve_policyd.settings import Notices
from mailreeve_policyd.smtp import parse_domain

MAX_ADDRESS = 254
"""Characters of an address that SMTP can carry: a path of 256 octets with its brackets (RFC 5321
4.5.3.1.3)."""

MAX_LOCAL_PART = 64
"""RFC 5321 section 4.5.3.1.1."""

# dot-atom "@" domain (RFC 5322 section 3.4.1): no quotes, comments, spaces or controls, which all have been
# used to slip a second address or a command in
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")

_URL_CHARACTERS = re.compile(r"[!-~]+\Z")

WEBHOOK_HINT = 'for instance webhook_url = "https://hooks.example.org/mailreeve"'


def tells_anybody(notices: Notices) -> bool:
    """Do the settings name anybody to tell?"""
    return uses_mail(notices) or bool(notices.webhook_url)


def uses_mail(notices: Notices) -> bool:
    """Do notices go by mail?"""
    return bool(notices.mail_to) or notices.mail_user


def is_plain_address(text: str) -> bool:
    """Is it an address that can stand in an envelope and a field as it is: ASCII, a dot-atom, a domain?"""
    local_part, at, domain = text.rpartition("@")
    if not at or len(text) > MAX_ADDRESS or len(local_part) > MAX_LOCAL_PART or not domain.isascii():
        return False
    try:
        parse_domain(domain)
    except ProtocolError:
        return False
    return _ADDRESS.match(local_part) is not None


def notice_conflicts(notices: Notices) -> Iterator[Conflict]:
    """Every contradiction, in the order of the file."""
    for position, address in enumerate(notices.mail_to):
        if not is_plain_address(address):
            yield f"notices.mail_to[{position}]", f"not an address: {escape(address)!r}", '"root@example.org"'
    yield from _bad_user(notices)
    if notices.mail_from and not is_plain_address(notices.mail_from):
        problem = f"not an address: {escape(notices.mail_from)!r}"
        yield "notices.mail_from", problem, 'the address alone: "mailreeve@example.org"'
    yield from _bad_server(notices.smtp_server)
    yield from _bad_webhook(notices)
    if not re.fullmatch(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,3}", notices.language):
        problem = f"not a language: {escape(notices.language)!r}"
        yield "notices.language", problem, 'as RFC 5646 writes them: "en", "pt-BR"'


def _bad_user(notices: Notices) -> Iterator[Conflict]:
    for name, value in (("user_addresses", notices.user_addresses), ("user_domain", notices.user_domain)):
        if value and not notices.mail_user:
            yield f"notices.{name}", "has no effect with mail_user = false", "set mail_user = true too"
    if notices.user_domain and not is_plain_address(f"bob@{notices.user_domain}"):
        problem = f"not a domain: {escape(notices.user_domain)!r}"
        yield "notices.user_domain", problem, 'user_domain = "example.org"'


def _bad_server(text: str) -> Iterator[Conflict]:
    try:
        address = parse_listen(text, "", "notices.smtp_server")
    except ConfigError as error:
        yield error.place, error.problem, 'for instance "inet:25@127.0.0.1"'
        return
    if not isinstance(address, InetAddress):
        yield "notices.smtp_server", "is no TCP address", 'SMTP is spoken over TCP: "inet:25@127.0.0.1"'


def _bad_webhook(notices: Notices) -> Iterator[Conflict]:
    if not notices.webhook_url:
        for name in ("webhook_secret_file", "webhook_ca_file"):
            if getattr(notices, name):
                yield f"notices.{name}", "has no effect without webhook_url", WEBHOOK_HINT
        return
    try:
        url = parse_webhook(notices.webhook_url)
    except ValueError as error:
        yield "notices.webhook_url", str(error), WEBHOOK_HINT
        return
    if notices.webhook_ca_file and url.scheme != "https":
        yield "notices.webhook_ca_file", "has no effect without TLS", WEBHOOK_HINT


def parse_webhook(text: str) -> SplitResult:
    """The URL of a webhook.

    Raises:
        ValueError: it cannot be used; the text repeats nothing of it, since it may hold a secret.
    """
    if not _URL_CHARACTERS.match(text):
        raise ValueError("holds what a URL does not: write spaces and letters beyond ASCII as %20 and so on")
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is no URL") from None
    if url.scheme not in ("https", "http") or not host:
        raise ValueError("is no https:// URL")
    if url.username is not None or url.password is not None:
        raise ValueError("holds a user or a password: sign with webhook_secret_file instead")
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError("is http://, which everybody on the way can read: https:// but on loopback")
    return url


def is_secret_webhook(notices: Notices) -> bool:
    """Is the URL what lets somebody post? With a query; with a path, where posts are not signed."""
    url = urlsplit(notices.webhook_url)
    if url.query:
        return True
    is_open = bool(notices.webhook_secret_file) or is_loopback(url.hostname or "")
    return url.path.strip("/") != "" and not is_open


def is_loopback(host: str) -> bool:
    """Is it this machine, by its name or address?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
