"""Which macros hold at which step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.protocol_words import Command, MacroPlace, Macros
from mailreeve_milter.step_macros import MACRO_LISTS, StepMacros

STEPS = (
    Command.CONNECT,
    Command.HELO,
    Command.MAIL,
    Command.RCPT,
    Command.DATA,
    Command.END_OF_MESSAGE,
)


def macros_of(*said: tuple[Command, dict[str, str]]) -> StepMacros:
    macros = StepMacros()
    for command, values in said:
        macros.put(Macros(command, values))
    return macros


def test_a_macro_holds_at_later_steps() -> None:
    """The login is said at MAIL and read whenever it is needed; what is not UTF-8 stays distinct."""
    macros = macros_of((Command.CONNECT, {"j": "mx"}), (Command.MAIL, {"{auth_authen}": "b\udcf6b"}))

    assert macros.get("j") == "mx"
    assert macros.get("{auth_authen}") == "b\udcf6b"
    assert macros.get("i") is None


def test_what_is_said_later_holds() -> None:
    """A queue id that is given at DATA and again at the end."""
    macros = macros_of((Command.END_OF_MESSAGE, {"i": "later"}), (Command.DATA, {"i": "earlier"}))

    assert macros.get("i") == "later"


def test_only_what_was_said_last_of_a_step_holds() -> None:
    """A second recipient's macros; the first one's are over, and what an earlier step said stands again."""
    macros = macros_of(
        (Command.MAIL, {"i": "4B1"}),
        (Command.RCPT, {"i": "4B2", "{rcpt_host}": "example.org"}),
        (Command.RCPT, {"{rcpt_mailer}": "smtp"}),
    )

    assert [macros.get(name) for name in ("i", "{rcpt_host}", "{rcpt_mailer}")] == ["4B1", None, "smtp"]


steps = st.sampled_from([*Command])
names = st.sampled_from(["i", "j", "{auth_authen}"])


@given(st.lists(st.tuples(steps, st.dictionaries(names, st.sampled_from(["1", "2"]))), max_size=8))
def test_in_any_order_the_latest_step_that_said_it_holds(said: list[tuple[Command, dict[str, str]]]) -> None:
    """As one would put it together from all that was said, each time."""
    macros = macros_of(*said)
    latest = dict(said)
    expected = {name: value for step in STEPS for name, value in latest.get(step, {}).items()}

    assert {name: macros.get(name) for name in ("i", "j", "{auth_authen}")} == {
        name: expected.get(name) for name in ("i", "j", "{auth_authen}")
    }


def test_the_words_about_a_message_end_with_it() -> None:
    """The next message has no login and no queue id that was not said of it; the session's words stay."""
    macros = macros_of(
        (Command.HELO, {"{cipher}": "AES"}),
        (Command.MAIL, {"{auth_authen}": "bob"}),
        (Command.END_OF_MESSAGE, {"i": "4B1"}),
    )
    macros.end_message()

    assert [macros.get(name) for name in ("{cipher}", "{auth_authen}", "i")] == ["AES", None, None]


def test_nothing_is_left_of_a_session() -> None:
    """Another client on the same connection."""
    macros = macros_of((Command.CONNECT, {"{client_addr}": "192.0.2.1"}))
    macros.end_session()

    assert macros.get("{client_addr}") is None


def test_macros_of_steps_that_nobody_reads_are_let_go() -> None:
    """Some MTAs send them with each header field."""
    assert macros_of((Command.HEADER, {"i": "4B1"})).get("i") is None


def test_every_place_asks_for_something() -> None:
    """An empty list cannot be asked for, and without a list an MTA sends all it has."""
    assert set(MACRO_LISTS) == set(MacroPlace)
    assert all(MACRO_LISTS.values())
