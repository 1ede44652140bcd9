r"""Dialogues: conversations of an MTA with the milter as plain text, played against a real filter process.

    # what it shows
    engine libmilter              only for this engine; otherwise for all
    offer 0x3f 0x7f 2             actions, steps, version; otherwise what Postfix 3.7 offers
    macro mail {auth_authen} bob  to be sent before each MAIL from now on; without a value: no longer
    > mail <bob@example.net>      a step; `\xNN`, `\n`, `\r`, `\t` and `\\` stand for octets
    < reply 550 5.7.1 ...         what must come back, packet for packet; `...` is anything
    record verdict.rule forged    the last line of the record has this value there
    log TEXT                      the filter's log has this text by now

A step without `<` lines must be answered by "continue", or by nothing where that was agreed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.process import wait_until
from tests.lab.record_schema import check_record
from tests.milterd.miltertalk import (
    ALL_ACTIONS,
    ALL_STEPS,
    VERSION,
    Actions,
    MilterTalk,
    Packet,
    Steps,
    split_message,
)

MACRO_STEPS = {"connect": "C", "helo": "H", "mail": "M", "rcpt": "R", "data": "T", "header": "L", "end": "E"}


@dataclass(slots=True)
class Line:
    """One instruction and the answers that it expects."""

    number: int
    word: str
    rest: str
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A file of instructions; `engine` is None if it is for all."""

    path: Path
    lines: tuple[Line, ...]
    engine: str | None
    offer: tuple[Actions, Steps, int]


def read_dialogue(path: Path) -> Dialogue:
    """Read a dialogue; ValueError with its place where it is none."""
    lines: list[Line] = []
    engine, offer = None, (ALL_ACTIONS, ALL_STEPS, VERSION)
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        word, _, rest = text.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "engine":
            engine = rest
        elif word == "offer":
            actions, steps, version = (int(part, 0) for part in rest.split())
            offer = (Actions(actions), Steps(steps), version)
        elif word == "<":
            lines[-1].answers.append(rest)
        elif word == ">":
            step, _, arguments = rest.partition(" ")
            lines.append(Line(number, step, arguments))
        elif word in ("macro", "record", "log"):
            lines.append(Line(number, word, rest))
        else:
            raise ValueError(f"{path}:{number}: {word!r} is no instruction")
    return Dialogue(path, tuple(lines), engine, offer)


_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[nrt\\])")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def unescape(text: str) -> bytes:
    r"""The octets of a text with `\xNN` and its like."""

    def octet(match: re.Match[str]) -> str:
        word = match[1]
        return _SIMPLE.get(word) or bytes.fromhex(word[1:]).decode("utf-8", "surrogateescape")

    return _ESCAPE.sub(octet, text).encode("utf-8", "surrogateescape")


def _decoded(text: str) -> str:
    return unescape(text).decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Stageplay:
    """Plays dialogues against a filter: `address` of its socket, its record's file, and its log so far."""

    address: str
    audit: Path
    log: Callable[[], str]

    def play(self, dialogue: Dialogue) -> None:
        """Play it; AssertionError with the place where something else came than it says."""
        actions, steps, version = dialogue.offer
        with MilterTalk(self.address, actions, steps, version) as talk:
            for line in dialogue.lines:
                place = f"{dialogue.path.name}:{line.number}"
                if line.word == "macro":
                    _set_macro(talk, line.rest)
                elif line.word == "record":
                    self._check_record(line, place)
                elif line.word == "log":
                    wait_until(lambda wanted=line.rest: wanted in self.log(), f"{place}: the log", 5.0)  # type: ignore[misc]
                else:
                    came = [str(packet) for packet in self._step(talk, line, dialogue.path.parent)]
                    _compare(came, line, place)
            assert talk.nothing_more(), f"{dialogue.path.name}: an answer that nobody asked for"

    def _step(self, talk: MilterTalk, line: Line, folder: Path) -> Iterator[Packet]:
        if line.word == "end":
            yield from talk.end_of_message()
            return
        answer = _STEPS[line.word](talk, line.rest, folder)
        if answer is not None:
            yield answer

    def _check_record(self, line: Line, place: str) -> None:
        where, _, wanted = line.rest.partition(" ")
        value: Any = json.loads(self.audit.read_bytes().splitlines()[-1])
        check_record(value)
        for part in where.split("."):
            value = value[int(part)] if isinstance(value, list) else value.get(part)
            if value is None:
                break
        shown = value if isinstance(value, str) else json.dumps(value)
        assert _matches(shown, wanted), f"{place}: the record says {shown}"


def _compare(came: list[str], line: Line, place: str) -> None:
    if line.answers:
        told = "\n".join(came)
        assert len(came) == len(line.answers), f"{place}: came\n{told}"
        for answer, wanted in zip(came, line.answers, strict=True):
            assert _matches(answer, wanted), f"{place}: came\n{told}"
    else:
        assert came in ([], ["continue"]), f"{place}: came {came}"


def _matches(text: str, wanted: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _set_macro(talk: MilterTalk, rest: str) -> None:
    stage, name, *value = rest.split(" ", 2)
    macros = talk.macros.setdefault(MACRO_STEPS[stage], {})
    macros.pop(name, None)
    if value:
        macros[name] = _decoded(value[0])


# -- the steps ------------------------------------------------------------------------------------------

Answer = Packet | None


def _connect(talk: MilterTalk, rest: str, _folder: Path) -> Answer:
    name, _, address = rest.partition(" ")
    return talk.connect(_decoded(name), address or None)


def _header(talk: MilterTalk, rest: str, _folder: Path) -> Answer:
    """`header NAME:VALUE`, or `header NAME: 1000 * TEXT`."""
    name, _, value = unescape(rest).partition(b":")
    times, star, text = value.partition(b" * ")
    return talk.header(name, b" " + text * int(times) if star else value)


def _body(talk: MilterTalk, rest: str, _folder: Path) -> Answer:
    """`body TEXT`, or `body 1000 * TEXT`."""
    times, star, text = rest.partition(" * ")
    talk.body(unescape(text) * int(times) if star else unescape(rest))
    return None


def _message(talk: MilterTalk, rest: str, folder: Path) -> Answer:
    """A file's header and body, its line ends made CRLF."""
    fields, body = split_message((folder / rest).read_bytes().replace(b"\n", b"\r\n"))
    for name, value in fields:
        talk.header(name, value)
    talk.end_of_headers()
    talk.body(body)
    return None


def _abort(talk: MilterTalk, _rest: str, _folder: Path) -> Answer:
    talk.abort()
    return None


def _quit(talk: MilterTalk, _rest: str, _folder: Path) -> Answer:
    talk.quit()
    return None


def _reconnect(talk: MilterTalk, _rest: str, _folder: Path) -> Answer:
    """Another connection, as MTAs make one for each session."""
    talk.quit()
    talk.reconnect()
    return None


def _quit_for_new(talk: MilterTalk, _rest: str, _folder: Path) -> Answer:
    talk.quit_for_new_session()
    return None


_STEPS: dict[str, Callable[[MilterTalk, str, Path], Answer]] = {
    "connect": _connect,
    "helo": lambda talk, rest, _: talk.helo(_decoded(rest)),
    "mail": lambda talk, rest, _: talk.mail(*_decoded(rest).split(" ")),
    "rcpt": lambda talk, rest, _: talk.rcpt(*_decoded(rest).split(" ")),
    "data": lambda talk, *_: talk.data(),
    "header": _header,
    "end-of-headers": lambda talk, *_: talk.end_of_headers(),
    "body": _body,
    "message": _message,
    "abort": _abort,
    "quit": _quit,
    "quit-new": _quit_for_new,
    "reconnect": _reconnect,
}
