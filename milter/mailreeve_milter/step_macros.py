"""The MTA's macros on the wire: which are asked for at which place, and which hold at which step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailreeve_milter.protocol_words import Command, MacroPlace, Macros
from mailreeve_milter.session import WANTED_MACROS
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

# In the order of the steps: what is said later holds.
_STEPS = (
    Command.CONNECT,
    Command.HELO,
    Command.MAIL,
    Command.RCPT,
    Command.DATA,
    Command.END_OF_MESSAGE,
)
_ORDER = {int(command): position for position, command in enumerate(_STEPS)}
_OF_SESSION = (int(Command.CONNECT), int(Command.HELO))
_LAST_OF_SESSION = _ORDER[Command.HELO]


class StepMacros:
    """The MTA's macros, each until its step is over: see session.Macros."""

    __slots__ = ("_by_command", "_holding", "_latest")

    def __init__(self) -> None:
        self._by_command: dict[int, Mapping[str, str]] = {}
        self._holding: dict[str, str] = {}  # of all steps together
        self._latest = -1  # the step whose macros were put in last, by its place in the order

    def get(self, name: str, /) -> str | None:
        """The value; None where the MTA did not send it."""
        return self._holding.get(name)

    def put(self, macros: Macros) -> None:
        """Those of the next step of a kind; of steps whose macros nobody reads they are let go."""
        position = _ORDER.get(macros.command)
        if position is None:
            return
        self._by_command[macros.command] = macros.values
        if position > self._latest:
            self._latest = position
            self._holding.update(macros.values)
        else:  # a step again, or out of turn
            self._hold()

    def _hold(self) -> None:
        """Put together anew what holds."""
        self._holding = {}
        for command, position in _ORDER.items():
            values = self._by_command.get(command)
            if values is not None:
                self._latest = position
                self._holding.update(values)

    def end_message(self) -> None:
        """The message is over, and so are the words about it."""
        if self._latest > _LAST_OF_SESSION:
            self._keep(_OF_SESSION)

    def end_session(self) -> None:
        """Another client may come."""
        self._keep(())

    def _keep(self, commands: Iterable[int]) -> None:
        by_command = self._by_command
        self._by_command = {command: by_command[command] for command in commands if command in by_command}
        self._latest = -1
        self._hold()
