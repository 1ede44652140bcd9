"""`mailreeve rules check`: what the daemons would make of the rules file."""

from __future__ import annotations

from pathlib import Path

from tests.admin.command import mailreeve, write_site

RULES = """\
at rcpt {
    burst: limit 2 recipients/hour per sasl_username
}
expect defer at rcpt with sasl_username = "bob" after 3 times
"""


def test_rules_are_listed_by_stage_with_their_lines(tmp_path: Path) -> None:
    """And what is right, but perhaps not what was meant, is noted."""
    ran = mailreeve("rules", "check", "--config", write_site(tmp_path, RULES))

    assert ran.status == 0
    assert ran.out.splitlines()[1].split() == ["rcpt", "burst", "(line", "2)"]
    assert "rules:2:40: burst does not count mail without sasl_username\n" in ran.out


def test_a_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    """The line, a caret and a hint, with status 78."""
    ran = mailreeve(
        "rules", "check", "--config", write_site(tmp_path, RULES.replace("sasl_username\n", "sasl_usrname\n"))
    )

    assert ran.status == 78
    assert "rules:2:40: " in ran.err
    assert "did you mean `sasl_username`?" in ran.err


def test_an_expect_line_that_is_not_met_is_a_mistake(tmp_path: Path) -> None:
    """The file tests itself."""
    ran = mailreeve("rules", "check", "--config", write_site(tmp_path, RULES.replace("after 3", "after 1")))

    assert ran.status == 78
    assert "rules:4:" in ran.err
