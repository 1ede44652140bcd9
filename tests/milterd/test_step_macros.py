"""Which macros hold at which step."""

from __future__ import annotations

from mailreeve_milter.protocol_words import Command, MacroPlace, Macros
from mailreeve_milter.step_macros import MACRO_LISTS, StepMacros


def macros_of(*said: tuple[Command, dict[bytes, bytes]]) -> StepMacros:
    macros = StepMacros()
    for command, values in said:
        macros.put(Macros(command, values))
    return macros


def test_a_macro_holds_at_later_steps() -> None:
    """The login is said at MAIL and read whenever it is needed; what is not UTF-8 stays distinct."""
    macros = macros_of((Command.CONNECT, {b"j": b"mx"}), (Command.MAIL, {b"{auth_authen}": b"b\xf6b"}))

    assert macros.get("j") == "mx"
    assert macros.get("{auth_authen}") == "b\udcf6b"
    assert macros.get("i") is None


def test_what_is_said_later_holds() -> None:
    """A queue id that is given at DATA and again at the end."""
    macros = macros_of((Command.END_OF_MESSAGE, {b"i": b"later"}), (Command.DATA, {b"i": b"earlier"}))

    assert macros.get("i") == "later"


def test_the_words_about_a_message_end_with_it() -> None:
    """The next message has no login and no queue id that was not said of it; the session's words stay."""
    macros = macros_of(
        (Command.HELO, {b"{cipher}": b"AES"}),
        (Command.MAIL, {b"{auth_authen}": b"bob"}),
        (Command.END_OF_MESSAGE, {b"i": b"4B1"}),
    )
    macros.end_message()

    assert [macros.get(name) for name in ("{cipher}", "{auth_authen}", "i")] == ["AES", None, None]


def test_nothing_is_left_of_a_session() -> None:
    """Another client on the same connection."""
    macros = macros_of((Command.CONNECT, {b"{client_addr}": b"192.0.2.1"}))
    macros.end_session()

    assert macros.get("{client_addr}") is None


def test_macros_of_steps_that_nobody_reads_are_let_go() -> None:
    """Some MTAs send them with each header field."""
    assert macros_of((Command.HEADER, {b"i": b"4B1"})).get("i") is None


def test_every_place_asks_for_something() -> None:
    """An empty list cannot be asked for, and without a list an MTA sends all it has."""
    assert set(MACRO_LISTS) == set(MacroPlace)
    assert all(MACRO_LISTS.values())
