"""From `[notices]` to whoever is told: reads the files that it names, asks no network.

The standard library's clients for mail and HTTP are loaded only where they are used: most hosts do without.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.config_notices import is_plain_address, parse_webhook, tells_anybody, uses_mail
from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.listen import InetAddress, parse_listen
from mailreeve_policyd.notices import Decider, NoticeOffice, NoticingPolicy
from mailreeve_policyd.notices_courier import Courier, Patience, Target
from mailreeve_policyd.notices_event import Reporter, host_name
from mailreeve_policyd.notices_mark import SECRET_FILE, NoticeMarks, SecretFile
from mailreeve_policyd.notices_text import Templates, read_templates
from mailreeve_policyd.places import may
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.rules.sets import lines_of, normal_mailbox
from mailreeve_policyd.smtp import parse_domain

if TYPE_CHECKING:
    import ssl

    from mailreeve_policyd.notices_mail import MailTarget
    from mailreeve_policyd.notices_webhook import WebhookTarget

MAX_SECRET_OCTETS = 4096
"""Of a file whose first line is a secret: another file by mistake has more."""

MIN_SECRET = 16
"""Characters of a secret that nobody guesses."""

MAX_USERS_OCTETS = 64 * 1024 * 1024
"""Of the table of users: a million of them."""

_UNMARKED = b""
"""For a target that is only looked at."""

NOWHERE = "localhost.invalid"
"""The domain of our From where the host has no full name (RFC 2606): none that somebody could own."""


def check_notices(configuration: Configuration) -> None:
    """Find a mistake in `[notices]` before a worker does. Makes nothing, asks nobody.

    Raises:
        ConfigError: as `open_targets`; or the state directory is missing, which is to hold the marks' secret.
    """
    notices = configuration.settings.notices
    if uses_mail(notices):
        _mail(configuration, _UNMARKED)
        folder = configuration.resolve(configuration.settings.state_dir)
        if not folder.is_dir() or not may(folder, os.W_OK | os.X_OK):
            problem = f"{folder} is no folder to write in, and notices by mail keep a secret there"
            hint = "make it, for the daemon's user to write"
            raise ConfigError(str(configuration.path), "state_dir", problem, hint)
        secret_file(configuration).check()
    if notices.webhook_url:
        _webhook(configuration)


def open_targets(configuration: Configuration) -> tuple[Target, ...]:
    """The targets that are configured; none is connected to. Makes the marks' secret, if mail needs it.

    Raises:
        ConfigError: a file that is missing, may not be read, can be read by others, or says what cannot be.
    """
    targets: list[Target] = []
    if uses_mail(configuration.settings.notices):
        targets.append(_mail(configuration, secret_file(configuration).make()))
    if configuration.settings.notices.webhook_url:
        targets.append(_webhook(configuration))
    return tuple(targets)


def open_office(configuration: Configuration, daemon: Literal["policyd", "milter"]) -> NoticeOffice:
    """Who tells the notices of a worker: nobody, where `[notices]` names nobody.

    Raises:
        ConfigError: as `open_targets`.
    """
    notices = configuration.settings.notices
    patience = Patience(notices.tries, notices.retry_seconds, notices.queue_size)
    with_people = replace(patience, most_an_hour=notices.most_an_hour)
    couriers = [
        Courier(target, with_people if target.name == "mail" else patience)
        for target in open_targets(configuration)
    ]
    return NoticeOffice(Reporter(daemon, host_name()), couriers)


def noticing(
    configuration: Configuration, policy: Policy, office: NoticeOffice, store: LimitStore, door: Door
) -> Decider:
    """The policy with its notices told, or as it is where nobody is told any."""
    if not tells_anybody(configuration.settings.notices):
        return policy
    own_networks = NetworkSet(configuration.trusted_networks)
    marks = NoticeMarks(secret_file(configuration).read, store, door, own_networks)
    return NoticingPolicy(policy, office, marks)


def secret_file(configuration: Configuration) -> SecretFile:
    """Where the secret of this machine's marks is."""
    return SecretFile(configuration.resolve(configuration.settings.state_dir) / SECRET_FILE)


# -- mail ----------------------------------------------------------------------------------------------


def _mail(configuration: Configuration, secret: bytes) -> MailTarget:
    from mailreeve_policyd.notices_mail import MailRoute, MailTarget, Readers  # noqa: PLC0415 -- as above

    notices = configuration.settings.notices
    server = parse_listen(notices.smtp_server, str(configuration.path), "notices.smtp_server")
    assert isinstance(server, InetAddress)  # noqa: S101 -- for the type checker: config_notices.py has seen it
    name = _full_name()
    route = MailRoute(
        server.host,
        server.port,
        notices.mail_from or f"mailreeve@{name}",
        name,
        notices.timeout_seconds,
    )
    readers = Readers(notices.mail_to, _user_address(configuration))
    return MailTarget(route, readers, _templates(configuration), notices.language, secret)


def _full_name() -> str:
    """This host's name as it can stand in EHLO and From."""
    try:
        name = parse_domain(host_name())
    except ProtocolError:
        return NOWHERE
    return name if is_plain_address(f"mailreeve@{name}") and "." in name else NOWHERE


def _templates(configuration: Configuration) -> Templates:
    name = configuration.settings.notices.templates
    if not name:
        return Templates()
    return read_templates(configuration.resolve(name), (str(configuration.path), "notices.templates"))


def _user_address(configuration: Configuration) -> Callable[[str], str | None] | None:
    """Where a login's mail goes; None where users are not told."""
    notices = configuration.settings.notices
    if not notices.mail_user:
        return None
    table = _read_users(configuration) if notices.user_addresses else {}
    domain = notices.user_domain

    def find(login: str) -> str | None:
        if found := table.get(normal_mailbox(login)):
            return found
        return f"{login}@{domain}" if domain and "@" not in login else login

    return find


def _read_users(configuration: Configuration) -> dict[str, str]:
    path = configuration.resolve(configuration.settings.notices.user_addresses)
    raw = _read_bounded(configuration, "notices.user_addresses", path, MAX_USERS_OCTETS)
    found: dict[str, str] = {}
    for number, line in lines_of(path, raw.decode("utf-8", "surrogateescape")):
        login, comma, address = (part.strip() for part in line.partition(","))
        if not (comma and login and is_plain_address(address)):
            problem = f"{escape(line)!r} is no login and address"
            raise ConfigError(str(path), str(number), problem, "bob,bob@example.org")
        found[normal_mailbox(login)] = address
    return found


# -- webhook -------------------------------------------------------------------------------------------


def _webhook(configuration: Configuration) -> WebhookTarget:
    from mailreeve_policyd.notices_webhook import WebhookRoute, WebhookTarget  # noqa: PLC0415 -- as above

    notices = configuration.settings.notices
    url = parse_webhook(notices.webhook_url)
    secret = _webhook_secret(configuration) if notices.webhook_secret_file else None
    tls = _tls(configuration) if url.scheme == "https" else None
    return WebhookTarget(WebhookRoute(url, notices.timeout_seconds, tls, secret))


def _tls(configuration: Configuration) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 -- as above

    name = configuration.settings.notices.webhook_ca_file
    try:
        return ssl.create_default_context(cafile=str(configuration.resolve(name)) if name else None)
    except OSError as error:  # ssl.SSLError is one
        problem = f"cannot be used: {error.strerror or error}"
        raise ConfigError(
            str(configuration.path), "notices.webhook_ca_file", problem, "a file in PEM form"
        ) from None


def _webhook_secret(configuration: Configuration) -> bytes:
    place, file = "notices.webhook_secret_file", str(configuration.path)
    path = configuration.resolve(configuration.settings.notices.webhook_secret_file)
    raw = _read_bounded(configuration, place, path, MAX_SECRET_OCTETS)
    mode = path.stat().st_mode
    if mode & stat.S_IRWXO:
        problem = f"others can read {path} (mode {stat.S_IMODE(mode):04o})"
        raise ConfigError(file, place, problem, f"chmod 0600 {path}")
    secret = raw.split(b"\n", 1)[0].rstrip(b"\r")
    if len(secret) < MIN_SECRET:
        problem = f"the first line of {path} has less than {MIN_SECRET} characters"
        raise ConfigError(file, place, problem, f"openssl rand -hex 32 > {path}")
    return secret


def _read_bounded(configuration: Configuration, place: str, path: Path, most: int) -> bytes:
    try:
        with open_regular(path) as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        hint = "a file that the daemon's user can read"
        raise ConfigError(str(configuration.path), place, problem, hint) from error
    if len(raw) > most:
        raise ConfigError(str(configuration.path), place, f"{path} is larger than {most} octets")
    return raw
