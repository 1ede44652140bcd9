"""Every dialogue of tests/dialogues/milter, against a real milter with the setup of its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from string import Template

import pytest

from mailreeve_milter.keys import new_keys
from mailreeve_policyd.smtp import parse_domain
from tests.lab.daemons import Daemon
from tests.lab.dns import DnsServer
from tests.lab.work import work_folder
from tests.milterd.dialogue import Stageplay, read_dialogue

FOLDER = Path(__file__).parent.parent / "dialogues/milter"
SETUPS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())
DIALOGUES = sorted(path.relative_to(FOLDER) for path in FOLDER.glob("*/*.txt"))
ENGINES = ("libmilter",)


def write_setup(setup: str, work: Path, dns: DnsServer) -> Path:
    """The configuration of a setup in a work folder, with a key; its path."""
    places = {"work": str(work), "dns": dns.address}
    (work / "mailreeve.toml").write_text(
        Template((FOLDER / setup / "mailreeve.toml").read_text()).substitute(places)
    )
    shutil.copy(FOLDER / setup / "rules", work / "rules")
    keys = new_keys(parse_domain("example.org"), work / "keys", None, date(2026, 1, 1))
    ed25519 = next(key for key in keys if key.algorithm.startswith("ed25519"))
    shutil.copy(ed25519.path, work / "e2026.pem")
    return work / "mailreeve.toml"


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[tuple[str, str], Stageplay]]:
    """A running milter for every setup and engine."""
    with ExitStack() as running:
        dns = running.enter_context(DnsServer((FOLDER / "zone").read_text()))
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
