"""The setups of tests/dialogues/milter: a configuration, rules and a zone, made ready in a work folder."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from string import Template

from mailreeve_milter.new_keys import new_keys, selectors_of
from mailreeve_policyd.smtp import parse_domain
from tests.lab.daemons import Engine
from tests.lab.dns import DnsServer

FOLDER = Path(__file__).parent.parent / "dialogues/milter"


def write_setup(setup: str, work: Path, dns: DnsServer, engine: Engine = "libmilter") -> Path:
    """The configuration of a setup in a work folder, with a key; its path."""
    places = {"work": str(work), "dns": dns.address, "engine": engine}
    (work / "mailreeve.toml").write_text(
        Template((FOLDER / setup / "mailreeve.toml").read_text()).substitute(places)
    )
    shutil.copy(FOLDER / setup / "rules", work / "rules")
    keys = new_keys(parse_domain("example.org"), work / "keys", None, selectors_of(date(2026, 1, 1)))
    ed25519 = next(key for key in keys if key.algorithm.startswith("ed25519"))
    shutil.copy(ed25519.path, work / "e2026.pem")
    return work / "mailreeve.toml"


def read_zone() -> str:
    """The DNS that all setups see."""
    return (FOLDER / "zone").read_text()
