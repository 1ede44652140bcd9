"""Every case of the ARC standard in tests/vectors/arc (see the README there)."""

import re
import shlex
from pathlib import Path

import pytest

from mailreeve_milter.arc import ChainOutcome, start_chain_verification
from mailreeve_milter.dkim.body_hash import BodyHashes
from mailreeve_policyd.resolver import ZoneResolver
from tests.milterd.dkim_messages import NOW, split_message

VECTORS = Path(__file__).parents[1] / "vectors/arc"
CASES = sorted(file.parent.name for file in VECTORS.glob("*/message.eml"))


def read_zone(case: Path) -> ZoneResolver:
    zone = (case / "zone").read_text()
    return ZoneResolver(zone, failing=re.findall(r"^; failing (\S+)$", zone, re.MULTILINE))


def verify(case: Path, chunk_octets: int) -> ChainOutcome:
    fields, body = split_message((case / "message.eml").read_bytes())
    verification = start_chain_verification(fields)
    bodies = BodyHashes(verification.body_forms)
    for start in range(0, len(body), chunk_octets):
        bodies.update(body[start : start + chunk_octets])
    bodies.finish()
    return verification.finish(bodies, read_zone(case), NOW)


@pytest.mark.parametrize("chunk_octets", [1, 65_535])
@pytest.mark.parametrize("name", CASES)
def test_vector(name: str, chunk_octets: int) -> None:
    """The chain of the case has the status, the sealers and the reason that the case expects."""
    lines = [line for line in (VECTORS / name / "expected").read_text().splitlines() if line[:1] != "#"]
    (word, *wanted, reason) = shlex.split(lines[0])

    outcome = verify(VECTORS / name, chunk_octets)

    assert (outcome.result.method, outcome.result.result) == ("arc", word)
    assert reason in (outcome.result.reason or "")
    found = [f"oldest-pass={outcome.result.properties.get('header.oldest-pass')}"] if word == "pass" else []
    found += [f"sealers={','.join(outcome.sealers)}"] if outcome.sealers else []
    found += [f"highest={outcome.chain.highest}"] + (["ended"] if outcome.chain.is_ended else [])
    assert found == wanted


def test_every_case_says_what_it_is_for() -> None:
    """Each case names its section, so that a reader finds the rule that it tests."""
    assert len(CASES) > 80
    for name in CASES:
        assert re.match(r"# \d{4}[ :]", (VECTORS / name / "expected").read_text())
