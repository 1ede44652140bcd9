"""Every dialogue of tests/dialogues/milter, against a real milter with the setup of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.daemons import Daemon
from tests.lab.dns import DnsServer
from tests.lab.work import work_folder
from tests.milterd.dialogue import Stageplay, read_dialogue
from tests.milterd.setups import FOLDER, read_zone, write_setup

SETUPS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())
DIALOGUES = sorted(path.relative_to(FOLDER) for path in FOLDER.glob("*/*.txt"))
ENGINES = ("libmilter",)


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[tuple[str, str], Stageplay]]:
    """A running milter for every setup and engine."""
    with ExitStack() as running:
        dns = running.enter_context(DnsServer(read_zone()))
        plays = {}
        for setup in SETUPS:
            for engine in ENGINES:
                work = running.enter_context(work_folder())
                config = write_setup(setup, work, dns)
                address = f"unix:{work}/milter.sock"
                daemon = running.enter_context(Daemon("milter", config, work))
                plays[setup, engine] = Stageplay(address, work / "audit.jsonl", daemon.text)
        yield plays
        for play in plays.values():
            assert "Traceback" not in play.log()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", DIALOGUES, ids=str)
def test_the_dialogue_goes_as_it_is_written(
    stages: dict[tuple[str, str], Stageplay], path: Path, engine: str
) -> None:
    """See the file's first lines for what it shows."""
    dialogue = read_dialogue(FOLDER / path)
    if dialogue.engine not in (None, engine):
        pytest.skip(f"a dialogue of {dialogue.engine} alone")
    stages[path.parts[0], engine].play(dialogue)
