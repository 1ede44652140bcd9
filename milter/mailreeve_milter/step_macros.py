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
_WIRE_NAMES = {name: encode_wire(name) for names in WANTED_MACROS.values() for name in names}


class StepMacros:
    """The MTA's macros, each until its step is over: see session.Macros."""

    __slots__ = ("_by_command", "_holding")

    # In the order of the steps: what is said later holds.
    _ORDER = (
        Command.CONNECT,
        Command.HELO,
        Command.MAIL,
        Command.RCPT,
        Command.DATA,
        Command.END_OF_MESSAGE,
    )
    _OF_MESSAGE = (Command.END_OF_MESSAGE, Command.DATA, Command.RCPT, Command.MAIL)

    def __init__(self) -> None:
        self._by_command: dict[int, Mapping[bytes, bytes]] = {}
        self._holding: dict[bytes, bytes] | None = None  # of all steps together, once it was asked for

    def get(self, name: str, /) -> str | None:
        """The value; None where the MTA did not send it."""
        if self._holding is None:
            self._holding = self._hold()
        value = self._holding.get(_WIRE_NAMES.get(name) or encode_wire(name))
        return None if value is None else decode_wire(value)

    def _hold(self) -> dict[bytes, bytes]:
        holding: dict[bytes, bytes] = {}
        for command in self._ORDER:
            if values := self._by_command.get(command):
                holding.update(values)
        return holding

    def put(self, macros: Macros) -> None:
        """Those of the next step of a kind; of steps whose macros nobody reads they are let go."""
        if macros.command in self._ORDER:
            self._by_command[macros.command] = macros.values
            self._holding = None

    def end_message(self) -> None:
        """The message is over, and so are the words about it."""
        for command in self._OF_MESSAGE:
            self._by_command.pop(command, None)
        self._holding = None

    def end_session(self) -> None:
        """Another client may come."""
        self._by_command.clear()
        self._holding = None
