"""What a notice says in a mail: templates with names in braces, built in or the operator's own files.

A file `notice.KIND.LANGUAGE.txt` or `notice.LANGUAGE.txt` holds `Subject: ...`, an empty line and the body.
Values come escaped and bounded (notices_event.py), one printable line each; names that are not there are "-".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.notice import NoticeKind
from mailreeve_policyd.notices_event import TEST, NoticeEvent
from mailreeve_policyd.regular_file import open_regular

MAX_FILE_OCTETS = 16_384
"""A page of text."""

MAX_FILES = 200
"""Kinds times languages, with room."""

MAX_SUBJECT = 200
"""Characters: mail programs show half of that."""

FALLBACK = "en"

KINDS = (*(kind.value for kind in NoticeKind), TEST)

NAMES = (
    "text",
    "kind",
    "rule",
    "stage",
    "login",
    "counted_by",
    "used",
    "maximum",
    "unit",
    "period",
    "client_address",
    "sender",
    "recipient",
    "queue_id",
    "host",
    "daemon",
    "time",
    "id",
)
"""What may stand in braces."""

_FILE = re.compile(rf"notice(?:\.(?P<kind>{'|'.join(KINDS)}))?\.(?P<language>[A-Za-z0-9-]{{2,35}})\.txt\Z")
_PART = re.compile(r"(\{\{|\}\}|\{[^{}\n]*\}|[{}])")

_UNITS = {
    "en": (("day", "days"), ("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
    "de": (("Tag", "Tage"), ("Stunde", "Stunden"), ("Minute", "Minuten"), ("Sekunde", "Sekunden")),
}
_SIZES = (86_400, 3600, 60, 1)

_UNIT_WORDS = {"de": {"messages": "Nachrichten", "recipients": "Empfängern", "bytes": "Bytes"}}


@dataclass(frozen=True, slots=True)
class Written:
    """A notice as mail: a subject of one printable line, and a body of lines ended by LF."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Template:
    """A subject and a body in parts: literal text at even places, names at odd ones."""

    subject: tuple[str, ...]
    body: tuple[str, ...]

    def write(self, values: Mapping[str, str]) -> Written:
        """The text with these values of NAMES."""
        subject = cut(_join(self.subject, values), MAX_SUBJECT)
        return Written(subject, _join(self.body, values))


def _join(parts: tuple[str, ...], values: Mapping[str, str]) -> str:
    return "".join(values.get(part, "-") if place % 2 else part for place, part in enumerate(parts))


class Templates:
    """The operator's templates before those that are built in; a language before English."""

    def __init__(self, own: Mapping[tuple[str, str], Template] | None = None) -> None:
        self._own = own or {}

    def write(self, event: NoticeEvent, language: str) -> Written:
        """The notice in a language: `de-AT` may be written in `de`, one that nobody has in English."""
        wanted = language.lower()
        for tag in dict.fromkeys((wanted, wanted.partition("-")[0], FALLBACK)):
            template = self._find(event.kind, tag)
            if template is not None:
                return template.write(values_of(event, tag))
        raise AssertionError("English is built in")

    def _find(self, kind: str, tag: str) -> Template | None:
        for found in (self._own.get((kind, tag)), self._own.get(("", tag)), _BUILT_IN.get((kind, tag))):
            if found is not None:
                return found
        return None


def values_of(event: NoticeEvent, language: str = FALLBACK) -> dict[str, str]:
    """What NAMES stand for; what is not there is missing."""
    standing = event.standing
    found: dict[str, str | None] = {
        "text": event.text,
        "kind": event.kind,
        "rule": event.rule,
        "stage": event.stage,
        "login": event.login,
        "counted_by": ", ".join(f"{name}={value}" for name, value in event.counted_by) or None,
        "used": str(standing.used) if standing else None,
        "maximum": str(standing.maximum) if standing else None,
        "unit": _UNIT_WORDS.get(language, {}).get(standing.unit, standing.unit) if standing else None,
        "period": spell_period(standing.period_seconds, language) if standing else None,
        "client_address": event.client_address,
        "sender": event.sender,
        "recipient": event.recipient,
        "queue_id": event.queue_id,
        "host": event.host,
        "daemon": event.daemon,
        "time": event.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "id": event.id,
    }
    return {name: cut(value, 1000) for name, value in found.items() if value is not None}


def spell_period(seconds: int, language: str = FALLBACK) -> str:
    """For people, exact: 5400 seconds are "1 hour 30 minutes"."""
    words = []
    for size, (one, many) in zip(_SIZES, _UNITS.get(language, _UNITS[FALLBACK]), strict=True):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {one if count == 1 else many}")
    return " ".join(words)


# -- the operator's files ------------------------------------------------------------------------------


def read_templates(folder: Path, where: tuple[str, str]) -> Templates:
    """The templates of a folder; `where` is the file and the place that name it.

    Raises:
        ConfigError: there is no such folder, or a file in it is no template.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.startswith("notice."))
    except OSError as error:
        hint = "a folder with notice.en.txt and the like"
        raise ConfigError(*where, f"{folder} cannot be read: {error.strerror}", hint) from error
    if len(paths) > MAX_FILES:
        raise ConfigError(*where, f"{folder} holds more than {MAX_FILES} templates")
    own: dict[tuple[str, str], Template] = {}
    for path in paths:
        match = _FILE.match(path.name)
        if match is None:
            hint = f"notice.LANGUAGE.txt or notice.KIND.LANGUAGE.txt, with KIND of {', '.join(KINDS)}"
            raise ConfigError(str(path), "", "is no name of a template", hint)
        own[match["kind"] or "", match["language"].lower()] = parse_template(_read(path), str(path))
    return Templates(own)


def _read(path: Path) -> str:
    try:
        with open_regular(path) as stream:
            raw = stream.read(MAX_FILE_OCTETS + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(str(path), "", f"cannot be read: {what}") from error
    if len(raw) > MAX_FILE_OCTETS:
        raise ConfigError(str(path), "", f"is larger than {MAX_FILE_OCTETS} octets")
    return text.replace("\r\n", "\n")


def parse_template(text: str, file: str) -> Template:
    """`Subject: ...`, an empty line, the body; names in braces, `{{` and `}}` are braces.

    Raises:
        ConfigError: it begins otherwise, or names what there is not.
    """
    first, _, rest = text.partition("\n")
    second, _, body = rest.partition("\n")
    if not first.startswith("Subject:") or not first[8:].strip() or second.strip():
        hint = "Subject: {rule} on {host}, an empty line, and then the text"
        raise ConfigError(file, "1", "does not begin with a subject and an empty line", hint)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.replace("\t", " ").isprintable():
            raise ConfigError(file, str(number), "holds a character that is not printable")
    return Template(
        tuple(_parse(first[8:].strip(), file, 1)), tuple(_parse(body.rstrip("\n") + "\n", file, 3))
    )


def _parse(text: str, file: str, line: int) -> Iterator[str]:
    """Literal text and names in turn, beginning with a literal."""
    literal = ""
    for part in _PART.split(text):
        if part in ("{{", "}}"):
            literal += part[0]
        elif part in ("{", "}"):
            raise ConfigError(file, str(line), f"a single {part!r}", f"{{name}}, or {part * 2!r} for a brace")
        elif part.startswith("{"):
            yield literal
            yield _name(part[1:-1], file, line)
            literal = ""
        else:
            literal += part
        line += part.count("\n")
    yield literal


def _name(name: str, file: str, line: int) -> str:
    if name in NAMES:
        return name
    close = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.6)
    hint = f"did you mean {{{close[0]}}}?" if close else "known here: " + ", ".join(NAMES)
    raise ConfigError(file, str(line), f"unknown name {{{escape(name, 60)}}}", hint)


# -- what is built in ----------------------------------------------------------------------------------

_DETAILS_EN = """\
    rule        {rule} (at {stage})
    login       {login}
    counted by  {counted_by}
    client      {client_address}
    sender      {sender}
    recipient   {recipient}
    queue id    {queue_id}
    time        {time}

mailreeve {daemon} on {host}
"""

_DETAILS_DE = """\
    Regel       {rule} (bei {stage})
    Anmeldung   {login}
    gezählt je  {counted_by}
    Client      {client_address}
    Absender    {sender}
    Empfänger   {recipient}
    Queue-ID    {queue_id}
    Zeit        {time}

mailreeve {daemon} auf {host}
"""

_TEXTS = {
    ("warning", "en"): (
        "Subject: {used} of {maximum} {unit} used: {rule}\n\n"
        "{text}\n\n{used} of {maximum} {unit} in {period} are used. When the maximum is reached, further\n"
        "mail is treated as the rule says. This is told once in that period.\n\n" + _DETAILS_EN
    ),
    ("exceeded", "en"): (
        "Subject: limit exceeded: {rule}\n\n"
        "{text}\n\nThe limit of {maximum} {unit} in {period} is exceeded. It becomes free by itself as time\n"
        "passes. If this mail was not yours to send, a password may be known to others: change it.\n"
        "This is told once in that period.\n\n" + _DETAILS_EN
    ),
    ("notify", "en"): "Subject: mailreeve: {rule}\n\n{text}\n\n" + _DETAILS_EN,
    ("test", "en"): (
        "Subject: mailreeve: a test of its notices\n\n"
        "{text}\n\nIf you read this, notices by mail reach you.\n\nmailreeve on {host}, {time}\n"
    ),
    ("warning", "de"): (
        "Subject: {used} von {maximum} {unit} verbraucht: {rule}\n\n"
        "{text}\n\n{used} von {maximum} {unit} in {period} sind verbraucht. Ist das Maximum erreicht, wird\n"
        "weitere Mail so behandelt, wie die Regel es sagt. Dies wird einmal in dieser Zeit gemeldet.\n\n"
        + _DETAILS_DE
    ),
    ("exceeded", "de"): (
        "Subject: Limit überschritten: {rule}\n\n"
        "{text}\n\nDas Limit von {maximum} {unit} in {period} ist überschritten. Es wird mit der Zeit von\n"
        "selbst frei. Stammt diese Mail nicht von Ihnen, kennen vielleicht andere ein Passwort: ändern\n"
        "Sie es. Dies wird einmal in dieser Zeit gemeldet.\n\n" + _DETAILS_DE
    ),
    ("notify", "de"): "Subject: mailreeve: {rule}\n\n{text}\n\n" + _DETAILS_DE,
    ("test", "de"): (
        "Subject: mailreeve: ein Test der Meldungen\n\n"
        "{text}\n\nWenn Sie dies lesen, erreichen Sie Meldungen per Mail.\n\nmailreeve auf {host}, {time}\n"
    ),
}

_BUILT_IN = {key: parse_template(text, "built in") for key, text in _TEXTS.items()}
