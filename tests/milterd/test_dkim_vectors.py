"""Every case of the DKIM standards in tests/vectors/dkim (see the README there)."""

import re
import shlex
from datetime import datetime
from pathlib import Path

import pytest

from mailreeve_milter.dkim import SignatureOutcome, start_verification
from mailreeve_milter.message import field_from_milter
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain
from tests.milterd.dkim_messages import NOW, split_message

VECTORS = Path(__file__).parents[1] / "vectors/dkim"
CASES = sorted(file.parent.name for file in VECTORS.glob("*/message.eml"))
DIRECTIVES = ("now", "author", "max")


def read_expected(case: Path) -> tuple[dict[str, str], list[list[str]]]:
    lines = [shlex.split(line) for line in (case / "expected").read_text().splitlines() if line[:1] != "#"]
    directives = {words[0]: words[1] for words in lines if words[0] in DIRECTIVES}
    return directives, [words for words in lines if words[0] not in DIRECTIVES]


def read_zone(case: Path) -> ZoneResolver:
    zone = (case / "zone").read_text()
    return ZoneResolver(zone, failing=re.findall(r"^; failing (\S+)$", zone, re.MULTILINE))


def verify(case: Path, directives: dict[str, str], chunk_octets: int) -> tuple[SignatureOutcome, ...]:
    found, body = split_message((case / "message.eml").read_bytes())
    fields = [
        field_from_milter(field.name, field.value.replace(b"\r\n", b"\n")) for field in found
    ]  # Postfix
    author = parse_domain(directives["author"]) if "author" in directives else None
    verification = start_verification(fields, author, int(directives.get("max", "8")))
    for start in range(0, len(body), chunk_octets):
        verification.update(body[start : start + chunk_octets])
    now = datetime.fromisoformat(directives["now"]) if "now" in directives else NOW
    return verification.finish(read_zone(case), now)


@pytest.mark.parametrize("chunk_octets", [1, 65_535])
@pytest.mark.parametrize("name", CASES)
def test_vector(name: str, chunk_octets: int) -> None:
    """Each signature of the case has the result, the properties and the reason that the case expects."""
    directives, expected = read_expected(VECTORS / name)

    outcomes = verify(VECTORS / name, directives, chunk_octets)

    assert [outcome.result.result for outcome in outcomes] == [words[0] for words in expected]
    for outcome, (_, counts, *properties, reason) in zip(outcomes, expected, strict=True):
        assert outcome.result.method == "dkim"
        assert outcome.counts == (counts == "counts")
        wanted = dict(pair.split("=", 1) for pair in properties)
        assert wanted.items() <= dict(outcome.result.properties).items()
        assert reason in (outcome.result.reason or "")


def test_every_case_says_what_it_is_for() -> None:
    """Each case names its section or bound, so that a reader finds the rule that it tests."""
    assert len(CASES) > 90
    for name in CASES:
        assert (VECTORS / name / "expected").read_text().startswith("# ")
