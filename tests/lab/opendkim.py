"""Debian's OpenDKIM in its test mode: what it thinks of signatures, and whom its tables sign for.

It shares no code with the product, and its Ed25519 is OpenSSL's by another way.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab import tree
from tests.lab.process import LabError

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Verified:
    """One signature: `result` is a word of RFC 8601."""

    result: str
    domain: str
    selector: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class Made:
    """A signature that it made; `identity` is None without i=."""

    domain: str
    selector: str
    identity: str | None


def verify(message: bytes, records: Mapping[str, str], work: Path) -> list[Verified]:
    """Its result for each signature of a message, in order; `records` are TXT records by their names."""
    (work / "dns").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    said = _run(f"TestDNSData file:{work}/dns\n", "v", message, work)
    found = re.findall(r"dkim=(\w+)\b[^;]*?header\.d=(\S+)[^;]*?header\.a=(\S+) header\.s=([^\s;]+)", said)
    return [Verified(result, domain, selector, algorithm) for result, domain, algorithm, selector in found]


def sign(message: bytes, key_table: str, signing_table: str, work: Path, *, multiple: bool) -> list[Made]:
    """The signatures that it makes by tables, named as in opendkim.conf, which use RSA keys.

    LabError if it would defer the message.
    """
    settings = (
        f"KeyTable {key_table}\nSigningTable {signing_table}\nInternalHosts 0.0.0.0/0\nRequireSafeKeys no\n"
    )
    said = _run(settings + f"MultipleSignatures {'yes' if multiple else 'no'}\n", "s", message, work)
    fields = re.findall(r"hname='DKIM-Signature' hvalue='([^']*)'", said)
    return [Made(_tag(field, "d") or "", _tag(field, "s") or "", _tag(field, "i")) for field in fields]


def _tag(field: str, name: str) -> str | None:
    match = re.search(rf"(?:\A|;)\s*{name}=([^;\s]*)", field)
    return match[1] if match else None


def _run(settings: str, modes: str, message: bytes, work: Path) -> str:
    (work / "opendkim.conf").write_text(settings)
    (work / "message").write_bytes(message)
    command = [tree.program("usr/sbin/opendkim"), "-x", work / "opendkim.conf"]
    command += ["-b", modes, "-t", work / "message", "-vv"]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        env=tree.environment(),
        timeout=SECONDS,
        check=False,
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    if done.returncode or "SMFIS_TEMPFAIL" in said:
        raise LabError(f"opendkim: {said}")
    return said
