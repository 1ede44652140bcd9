"""Our own signing keys, made as an administrator makes them: `mailreeve keys new`, its DNS records pasted."""

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.lab.process import LabError

KEYS_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Key files in `folder`, the DNS records that were printed with them, the entries of [[signing.keys]].

    The files of the entries are relative to `folder`.
    """

    folder: Path
    zone: str
    entries: tuple[dict[str, str], ...]


def make_keys(domain: str, folder: Path) -> SigningKeys:
    """Make a domain's keys in a folder by the product's own command; LabError with what it said."""
    program = Path(sys.executable).parent / "mailreeve"
    command: list[str | Path] = [program, "keys", "new", domain, "--directory", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=KEYS_SECONDS, check=False)
    if done.returncode:
        raise LabError(f"mailreeve keys new {domain}: {done.returncode}\n{done.stdout}{done.stderr}")
    return SigningKeys(folder, find_zone(done.stdout), find_entries(done.stdout))


def find_zone(text: str) -> str:
    """The lines of master file format among the text: one TXT record a key, on one line or in ( )."""
    records = re.findall(r"^\S+\._domainkey\.\S+\s.*?\sTXT\s+(?:\([^)]*\)|[^\n]*)", text, re.MULTILINE)
    return "\n".join(" ".join(record.split()) for record in records) + "\n"


def find_entries(text: str) -> tuple[dict[str, str], ...]:
    """The tables [[signing.keys]] among the text, their files without a folder."""
    tables = re.findall(r"^\[\[signing\.keys\]\]\n(?:\w+ *= *.*\n?)+", text, re.MULTILINE)
    keys = tomllib.loads("\n".join(tables))["signing"]["keys"] if tables else []
    return tuple({**key, "file": Path(key["file"]).name} for key in keys)
