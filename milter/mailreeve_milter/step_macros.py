"""The MTA's macros on the wire: which are asked for at which place, and which hold at which step."""

from __future__ import annotations

from collections.abc import Mapping

from mailreeve_milter.protocol_words import Command, MacroPlace, Macros
from mailreeve_milter.session import WANTED_MACROS
from mailreeve_policyd.escape import decode_wire, encode_wire
from mailreeve_policyd.smtp import Stage

NO_MACRO = "{mailreeve}"
"""Asked for where no macro is wanted: no MTA has it, so none is sent. An empty list cannot be asked for."""

_PLACES = {
    Stage.CONNECT: MacroPlace.CONNECT,
    Stage.HELO: MacroPlace.HELO,
    Stage.MAIL: MacroPlace.MAIL,
    Stage.RCPT: MacroPlace.RCPT,
    Stage.DATA: MacroPlace.DATA,
    Stage.END_OF_MESSAGE: MacroPlace.END_OF_MESSAGE,
}
MACRO_LISTS: Mapping[MacroPlace, tuple[str, ...]] = {
    **{place: WANTED_MACROS[stage] or (NO_MACRO,) for stage, place in _PLACES.items()},
    MacroPlace.END_OF_HEADERS: (NO_MACRO,),
}


class StepMacros:
    """The MTA's macros, each until its step is over: see session.Macros."""

    __slots__ = ("_by_command",)

    # In the order of the steps, the last first: what is said later holds.
    _ORDER = (
        Command.END_OF_MESSAGE,
        Command.DATA,
        Command.RCPT,
        Command.MAIL,
        Command.HELO,
        Command.CONNECT,
    )
    _OF_MESSAGE = (Command.END_OF_MESSAGE, Command.DATA, Command.RCPT, Command.MAIL)

    def __init__(self) -> None:
        self._by_command: dict[int, Mapping[bytes, bytes]] = {}

    def get(self, name: str, /) -> str | None:
        """The value; None where the MTA did not send it."""
        wire_name = encode_wire(name)
        for command in self._ORDER:
            value = self._by_command.get(command, {}).get(wire_name)
            if value is not None:
                return decode_wire(value)
        return None

    def put(self, macros: Macros) -> None:
        """Those of the next step of a kind; of steps whose macros nobody reads they are let go."""
        if macros.command in self._ORDER:
            self._by_command[macros.command] = macros.values

    def end_message(self) -> None:
        """The message is over, and so are the words about it."""
        for command in self._OF_MESSAGE:
            self._by_command.pop(command, None)

    def end_session(self) -> None:
        """Another client may come."""
        self._by_command.clear()
