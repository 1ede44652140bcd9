"""What this filter agrees on with an MTA: only what is used, and silence wherever nothing is decided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mailreeve_milter.protocol_reply import agree, format_agreement
from mailreeve_milter.protocol_words import ActionFlag, Negotiate, StepFlag
from mailreeve_milter.step_macros import MACRO_LISTS
from mailreeve_policyd.smtp import Stage

NEEDED_ACTIONS = ActionFlag.ADD_HEADERS | ActionFlag.CHANGE_HEADERS
WANTED_ACTIONS = (
    ActionFlag.QUARANTINE | ActionFlag.ADD_RECIPIENTS | ActionFlag.DELETE_RECIPIENTS | ActionFlag.SET_MACROS
)

ALWAYS_SILENT = (
    StepFlag.NO_UNKNOWN | StepFlag.SILENT_HEADER | StepFlag.SILENT_END_OF_HEADERS | StepFlag.SILENT_BODY
)
SILENT_UNLESS_DECIDED = {
    Stage.CONNECT: StepFlag.SILENT_CONNECT,
    Stage.HELO: StepFlag.SILENT_HELO,
    Stage.MAIL: StepFlag.SILENT_MAIL,
    Stage.RCPT: StepFlag.SILENT_RCPT,
    Stage.DATA: StepFlag.SILENT_DATA | StepFlag.NO_DATA,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed, as plain numbers, and the packet that says so."""

    actions: int
    steps: int
    packet: bytes


@lru_cache(maxsize=8)
def terms_for(offer: Negotiate, stages: frozenset[Stage]) -> Terms:
    """The terms for an MTA's offer; a machine's MTAs make the same one each time.

    Raises:
        ProtocolError: as `agree`.
    """
    wanted = ALWAYS_SILENT | StepFlag.LEADING_SPACE
    for stage, flags in SILENT_UNLESS_DECIDED.items():
        if stage not in stages:
            wanted |= flags
    agreement = agree(offer, NEEDED_ACTIONS, WANTED_ACTIONS, wanted)
    packet = format_agreement(agreement, MACRO_LISTS)
    return Terms(int(agreement.actions), int(agreement.steps), packet)
