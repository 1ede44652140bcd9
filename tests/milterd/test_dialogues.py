"""Every dialogue of tests/dialogues/milter, against a real milter with the setup of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import DnsServer
from tests.lab.work import work_folder
from tests.milterd.dialogue import Stageplay, read_dialogue
from tests.milterd.setups import FOLDER, read_zone, write_setup

pytestmark = pytest.mark.system

SETUPS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[tuple[str, Engine], Stageplay]]:
    """A running milter for every setup and engine."""
    with ExitStack() as running:
        dns = running.enter_context(DnsServer(read_zone()))
        plays: dict[tuple[str, Engine], Stageplay] = {}
        for setup in SETUPS:
            for engine in ENGINES:
                work = running.enter_context(work_folder())
                config = write_setup(setup, work, dns, engine)
                address = f"unix:{work}/milter.sock"
                daemon = running.enter_context(Daemon("milter", config, work))
                plays[setup, engine] = Stageplay(address, work / "audit.jsonl", daemon.text)
        yield plays
        for play in plays.values():
            assert "Traceback" not in play.log()


def casts() -> Iterator[tuple[str, Engine]]:
    """Every dialogue with every engine that it is for."""
    for path in sorted(FOLDER.glob("*/*.txt")):
        only = read_dialogue(path).engine
        for engine in ENGINES:
            if only in (None, engine):
                yield str(path.relative_to(FOLDER)), engine


@pytest.mark.parametrize(("name", "engine"), tuple(casts()))
def test_the_dialogue_goes_as_it_is_written(
    stages: dict[tuple[str, Engine], Stageplay], name: str, engine: Engine
) -> None:
    """See the file's first lines for what it shows."""
    path = FOLDER / name
    stages[path.parent.name, engine].play(read_dialogue(path))
