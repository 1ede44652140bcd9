"""mailreeve.toml to a `Configuration`: read, checked, frozen.

Reading says where a mistake is, what it is and what would be right (ConfigError); nothing is guessed.
The options themselves are described in the room settings. Opens no socket and asks no network.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

import msgspec

from mailreeve_policyd.audit_line import MAX_LINE_OCTETS
from mailreeve_policyd.config_arc import arc_conflicts
from mailreeve_policyd.config_notices import is_secret_webhook, notice_conflicts
from mailreeve_policyd.config_signing import signing_conflicts
from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.listen import Address, parse_listen
from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.sink_syslog import parse_syslog_address
from mailreeve_policyd.smtp import Stage, parse_domain

__all__ = ["DEFAULT_FILE", "Configuration", "Settings", "load_configuration", "parse_configuration"]

DEFAULT_FILE = Path("/etc/mailreeve/mailreeve.toml")
"""Read when no --config is given."""

MAX_FILE_BYTES = 1_048_576
"""A configuration is a page or two; more is some other file."""

Network = IPv4Network | IPv6Network


class Configuration(msgspec.Struct, frozen=True):
    """Settings with the file that they came from, whose folder relative paths start at."""

    path: Path
    settings: Settings

    def resolve(self, name: str) -> Path:
        """A path of the settings as an absolute one."""
        return (self.path.parent / name).absolute()

    @property
    def authserv_id(self) -> str:
        """Ours, lower case; by default this host's name, as the host itself knows it (DNS is not asked).

        Raises:
            ConfigError: the host has no full name. What it has, such as "localhost", many hosts have:
                results under such a name would be anybody's.
        """
        if told := self.settings.authentication.authserv_id:
            return told.lower()
        name = socket.gethostname()
        if "." in name and not list(_bad_authserv_id(name)):
            return name.lower()
        raise ConfigError(
            str(self.path),
            "authentication.authserv_id",
            f"is not set, and this host's name, {escape(name)!r}, is no full name",
            'set it, usually to this server\'s name: authserv_id = "mx.example.org"',
        )

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Origins of our own mail."""
        return tuple(ip_network(text) for text in self.settings.trust.networks)

    @property
    def relay_networks(self) -> tuple[Network, ...]:
        """Internal hops."""
        return tuple(ip_network(text) for text in self.settings.trust.relays)

    def stages(self, daemon: Literal["policyd", "milter"]) -> frozenset[Stage]:
        """The stages that a daemon decides."""
        section = self.settings.policyd if daemon == "policyd" else self.settings.milter
        return frozenset(Stage(name) for name in section.decides)


def load_configuration(path: Path) -> Configuration:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, is no TOML, names unknown options or holds values that cannot be;
            or it holds a secret, and others than its owner and group can read it.
    """
    try:
        with open_regular(path) as file:
            raw, mode = file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(str(path), "", f"is larger than {MAX_FILE_BYTES} bytes: not a configuration file")
    configuration = parse_configuration(raw, path)
    if mode & stat.S_IRWXO:
        for place, what, instead in _secrets(configuration.settings):
            problem = f"holds {what}, and others can read or change this file (mode {stat.S_IMODE(mode):04o})"
            hint = f"chmod 0640 {path} and give it the daemon's group, or use a {instead}"
            raise ConfigError(str(path), place, problem, hint)
    return configuration


def parse_configuration(raw: bytes, path: Path) -> Configuration:
    """The octets of a configuration file; `path` is where they came from. Raises as `load_configuration`."""
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise ConfigError(str(path), "", "is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"byte {error.start}", "is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "", f"is not TOML: {error}", hint=_toml_hint(str(error))) from error
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise _explain(error, table, path) from error
    configuration = Configuration(path.absolute(), settings)
    for place, problem, hint in _conflicts(settings):
        raise ConfigError(str(path), place, problem, hint)
    return configuration


def _toml_hint(problem: str) -> str | None:
    if "Invalid value" in problem:
        return 'text stands in double quotes: rules = "rules"'
    return None


# msgspec's message: "<what> - at `$.milter.workers`"; the place is missing at the top of the file
_VALIDATION = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<place>.*)`)?\Z", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<name>.*)`\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>.*)`\Z", re.DOTALL)


def _explain(error: msgspec.ValidationError, table: Mapping[str, Any], path: Path) -> ConfigError:
    match = _VALIDATION.match(str(error))
    what = match["what"] if match else str(error)
    place = (match["place"] if match else None) or ""
    if unknown := _UNKNOWN_FIELD.match(what):
        key = _join(place, unknown["name"])
        return ConfigError(str(path), escape(key), "unknown option", _nearest(key))
    if missing := _MISSING_FIELD.match(what):
        return ConfigError(
            str(path),
            place,
            f"the option {missing['name']} is missing",
            _describe(_join(place, missing["name"])),
        )
    value = _value_at(table, place)
    shown = "" if value is None or _is_secret(place) else f" (it is {escape(repr(value), 60)})"
    return ConfigError(str(path), place, _in_words(what, place) + shown, _describe(place))


_TYPE_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text in double quotes",
    "`bool`": "true or false",
    "`array`": "a list in [ ]",
    "`object`": "a table",
}


def _in_words(what: str, place: str) -> str:
    """Msgspec's complaint in the words of TOML and of this option."""
    if what.startswith("Invalid enum value"):
        return "is none of " + ", ".join(_choices(place))
    what = what.replace(" | null`", "`")  # null is not there, which nobody writes
    for name, words in _TYPE_WORDS.items():
        what = what.replace(name, words)
    return what[:1].lower() + what[1:]


def _choices(place: str) -> tuple[str, ...]:
    """The closed set of words of an option, or of its list's items."""
    wanted = _generic(place).removesuffix("[]")
    kind = next((field.type for name, field, _ in options() if name == wanted), None)
    kind = plain_type(kind) if kind else None
    if isinstance(kind, msgspec.inspect.VarTupleType):
        kind = plain_type(kind.item_type)
    return tuple(f'"{word}"' for word in kind.values) if isinstance(kind, msgspec.inspect.LiteralType) else ()


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_secret(place: str) -> bool:
    """May its value hold a password? Sentinels and nodes may be URLs, too."""
    name = _generic(place).removesuffix("[]").rpartition(".")[2]
    return name in ("redis_url", "redis_sentinels", "redis_cluster", "webhook_url")


# [scheme "://"] [user] ":" password "@": as redis_access.py reads it
_PASSWORD = re.compile(r"(?:[a-z]+://)?[^/@]*:[^/@]+@")


def _secrets(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Where settings hold one, what it is, and what would keep it out of the file."""
    for place in _passwords(msgspec.to_builtins(settings), ""):
        yield place, "a password", "redis_password_file"
    if is_secret_webhook(settings.notices):
        yield "notices.webhook_url", "what may be a secret", "webhook_secret_file and a URL without a query"


def _passwords(value: object, place: str) -> Iterator[str]:
    """Where settings hold one."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _passwords(inner, _join(place, name))
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _passwords(inner, f"{place}[{position}]")
    elif isinstance(value, str) and _is_secret(place) and _PASSWORD.match(value):
        yield place


def _value_at(table: Mapping[str, Any], place: str) -> object:
    value: Any = table
    for part in re.findall(r"[^.\[\]]+", place):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def options() -> Iterator[tuple[str, msgspec.inspect.Field, str]]:
    """Every option as (dotted name, field, description), in the order of the reference.

    An array of tables has `[]` behind its name: `signing.keys[].file`.
    """
    yield from _options_of(Settings, "")


def _options_of(
    struct: type[msgspec.Struct], prefix: str
) -> Iterator[tuple[str, msgspec.inspect.Field, str]]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 -- for the type checker: we pass structs
    for option in info.fields:
        name = prefix + option.name
        kind = option.type
        if isinstance(kind, msgspec.inspect.StructType):
            yield from _options_of(kind.cls, name + ".")
            continue
        yield name, option, _description(kind)
        kind = plain_type(kind)
        if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(
            kind.item_type, msgspec.inspect.StructType
        ):
            yield from _options_of(kind.item_type.cls, name + "[].")


def plain_type(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The type itself: without its description, and without the None of an option that may be absent."""
    while isinstance(kind, msgspec.inspect.Metadata | msgspec.inspect.UnionType):
        if isinstance(kind, msgspec.inspect.Metadata):
            kind = kind.type
        else:
            kind = next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
    return kind


def _description(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description", ""))
    return ""


def _generic(place: str) -> str:
    return re.sub(r"\[(\d+|\.\.\.)\]", "[]", place)


def _describe(place: str) -> str | None:
    wanted = _generic(place).removesuffix("[]")
    return next((text for name, _, text in options() if name == wanted), None)


def _nearest(key: str) -> str:
    """Name the known option that looks most like this one, its section included if need be."""
    section, _, last = _generic(key).rpartition(".")
    names = [name for name, _, _ in options()]
    tables = {name.rpartition(".")[0] for name in names if "." in name}
    beside = [name for name in (*names, *tables) if name.rpartition(".")[0] == section]
    close = difflib.get_close_matches(_generic(key), beside, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    if elsewhere := [name for name in names if name.rpartition(".")[2] == last]:
        return f"it belongs elsewhere: {elsewhere[0]}"
    return "known here: " + ", ".join(sorted(name.rpartition(".")[2] for name in beside))


def _conflicts(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What no single type can say, as (place, problem, hint)."""
    yield from _bad_networks("trust.networks", settings.trust.networks)
    yield from _bad_networks("trust.relays", settings.trust.relays)
    yield from _shared_networks(settings.trust.networks, settings.trust.relays)
    for place, mode in (
        ("policyd.socket_mode", settings.policyd.socket_mode),
        ("milter.socket_mode", settings.milter.socket_mode),
    ):
        if not re.fullmatch(r"0?[0-7]{3}", mode):
            yield place, f"not a file mode: {escape(mode)!r}", 'three octal digits: "0660"'
    for stage in settings.policyd.decides:
        if stage in settings.milter.decides:
            yield (
                "milter.decides",
                f"the stage {stage} stands in policyd.decides too",
                "each stage is decided by one daemon, so that nothing is counted twice",
            )
    yield from _bad_addresses(settings)
    if settings.limits.store == "redis" and not settings.limits.redis_url:
        yield (
            "limits.redis_url",
            'is missing, and store = "redis" needs it',
            'redis_url = "redis://127.0.0.1:6379/0"',
        )
    if settings.limits.store == "sqlite" and settings.limits.redis_url:
        yield (
            "limits.redis_url",
            'has no effect with store = "sqlite"',
            'set store = "redis" or remove redis_url; sets and tables in Redis are asked at live.redis_url',
        )
    if settings.live.redis_password_file and not settings.live.redis_url:
        yield (
            "live.redis_password_file",
            "has no effect without live.redis_url",
            'redis_url = "redis://127.0.0.1:6379/0" under [live]',
        )
    if settings.group and not settings.user:
        yield "group", "has no effect without user", 'set user = "mailreeve" too'
    yield from _bad_authserv_id(settings.authentication.authserv_id)
    yield from signing_conflicts(settings.signing)
    yield from arc_conflicts(settings.arc)
    yield from notice_conflicts(settings.notices)
    if settings.audit.to in ("stdout", "syslog") and settings.audit.max_line_bytes > MAX_LINE_OCTETS:
        yield (
            "audit.max_line_bytes",
            f'is more than {MAX_LINE_OCTETS}, and to = "{settings.audit.to}" takes no longer lines whole',
            'to = "file" or "journal"',
        )
    yield from _bad_syslog(settings.syslog.address)


def _bad_addresses(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Not an address, or one at which two are to listen."""
    places = {f"policyd.listen[{index}]": text for index, text in enumerate(settings.policyd.listen)}
    first: dict[Address, str] = {}
    places["milter.listen"] = settings.milter.listen
    metrics = settings.metrics
    told = {"metrics.policyd_listen": metrics.policyd_listen, "metrics.milter_listen": metrics.milter_listen}
    for place, text in (places | {place: text for place, text in told.items() if text}).items():
        try:
            address = parse_listen(text, "", place)
        except ConfigError as error:
            yield error.place, error.problem, error.hint or ""
            continue
        if address in first:
            yield place, f"{address} is that of {first[address]} too", "each needs an address of its own"
        first.setdefault(address, place)


def _bad_syslog(text: str) -> Iterator[tuple[str, str, str]]:
    try:
        parse_syslog_address(text)
    except ValueError as error:
        yield "syslog.address", f"{escape(text)!r}: {error}", 'such as "unix:/dev/log" or "udp:192.0.2.9:514"'


def _bad_networks(place: str, texts: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for position, text in enumerate(texts):
        try:
            ip_network(text)
        except ValueError:
            yield f"{place}[{position}]", f"not a network: {escape(text)!r}", _network_hint(text)


def _network_hint(text: str) -> str:
    try:
        return f"the network is {ip_network(text, strict=False)}"
    except ValueError:
        return 'an address with its prefix length: "192.0.2.0/24", "2001:db8::/32"'


def _shared_networks(networks: Iterable[str], relays: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    parsed = [ip_network(text) for text in relays]
    for text in networks:
        ours = ip_network(text)
        for relay in parsed:
            if ours.version == relay.version and ours.overlaps(relay):
                yield (
                    "trust.relays",
                    f"{relay} and {ours} of trust.networks share addresses",
                    "networks send our own mail (signed), relays pass on that of others (checked)",
                )


def _bad_authserv_id(text: str) -> Iterator[tuple[str, str, str]]:
    if not text:
        return
    try:
        parse_domain(text)
    except ProtocolError:
        yield (
            "authentication.authserv_id",
            f"not a host name: {escape(text)!r}",
            'usually this server: "mx.example.org"',
        )
