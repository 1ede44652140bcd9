"""What notices say: built in, or in templates of the operator's own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.notice import NoticeKind
from mailreeve_policyd.notices_text import (
    KINDS,
    MAX_SUBJECT,
    NAMES,
    Templates,
    parse_template,
    read_templates,
    spell_period,
    values_of,
)
from tests.policyd.notice_services import event, notice

WHERE = ("mailreeve.toml", "notices.templates")


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_built_in(kind: str, language: str) -> None:
    """With a subject of one line, the notice's own text, and no name left over."""
    written = Templates().write(replace(event(), kind=kind), language)

    assert written.subject.isprintable()
    assert event().text in written.body
    assert "{" not in written.subject + written.body
    assert max(map(len, written.body.split("\n"))) <= 120


def test_what_is_not_there_is_a_dash() -> None:
    """A notice without a limit has no login, no client."""
    plain = replace(notice(NoticeKind.NOTIFY, login=None), used=None, maximum=None, unit=None, period=None)

    assert "login       -\n" in Templates().write(event(plain), "en").body


def test_values_have_the_documented_names() -> None:
    """No name that a template may use is without a meaning."""
    assert set(values_of(event())) <= set(NAMES)
    full = replace(event(), client_address="192.0.2.1", sender="<>", recipient="a@example.net")
    assert set(values_of(full)) == set(NAMES)


def test_own_templates_go_first(tmp_path: Path) -> None:
    """That of the kind before the general one, that of the language before its parent and before English."""
    for name, subject in (
        ("notice.en.txt", "general"),
        ("notice.warning.en.txt", "near"),
        ("notice.pt.txt", "geral"),
    ):
        (tmp_path / name).write_text(f"Subject: {subject} {{rule}}\n\n{{text}}\n")
    (tmp_path / "README").write_text("not ours")
    templates = read_templates(tmp_path, WHERE)
    exceeded = replace(event(), kind="exceeded")

    assert templates.write(event(), "en").subject == "near day"
    assert templates.write(exceeded, "en").subject == "general day"
    assert templates.write(exceeded, "pt-BR").subject == "geral day"
    assert templates.write(exceeded, "fr").subject == "general day"
    assert templates.write(exceeded, "de").subject == "Limit überschritten: day"


@pytest.mark.parametrize(
    ("text", "place", "problem", "hint"),
    [
        ("Hello\n\n{text}\n", "1", "does not begin with a subject", "Subject:"),
        ("Subject:\n\n{text}\n", "1", "does not begin with a subject", "Subject:"),
        ("Subject: a\n{text}\n", "1", "an empty line", "empty line"),
        ("Subject: a\n\nHello {logn}\n", "3", "unknown name {logn}", "did you mean {login}?"),
        ("Subject: a\n\n1\n2 {\n", "4", "a single '{'", "'{{'"),
        ("Subject: a\n\n\x1b[31m\n", "3", "not printable", ""),
        ("Subject: a\rBcc: eve@example.net\n\n", "1", "not printable", ""),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, place: str, problem: str, hint: str) -> None:
    """And with what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse_template(text, "notice.en.txt")

    assert caught.value.place == place
    assert problem in caught.value.problem
    assert hint in (caught.value.hint or "")


def test_a_file_of_another_name_is_a_mistake(tmp_path: Path) -> None:
    """It would be read by nobody, and nobody would know."""
    (tmp_path / "notice.warnung.de.txt").write_text("Subject: a\n\nb\n")

    with pytest.raises(ConfigError, match="is no name of a template"):
        read_templates(tmp_path, WHERE)


def test_a_folder_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    """The error names the option."""
    with pytest.raises(ConfigError, match=r"notices\.templates"):
        read_templates(tmp_path / "missing", WHERE)


def test_braces_and_values() -> None:
    """A value is put in as it is: what stands in braces in it is no name."""
    template = parse_template("Subject: {{{login}}}\n\n{text}", "x")

    written = template.write({"login": "{rule}", "text": "}}{{"})

    assert written.subject == "{{rule}}"
    assert written.body == "}}{{\n"


def test_a_subject_is_bounded() -> None:
    """However long its values are."""
    template = parse_template("Subject: {text}{text}\n\n", "x")

    assert len(template.write({"text": "a" * 500}).subject) == MAX_SUBJECT


def test_periods_are_spelt_in_the_language() -> None:
    """Exactly."""
    assert spell_period(5400) == "1 hour 30 minutes"
    assert spell_period(86_400, "de") == "1 Tag"
    assert spell_period(2 * 86_400 + 1, "fr") == "2 days 1 second"


@given(st.text())
def test_any_text_is_a_template_or_a_mistake(text: str) -> None:
    """Nothing else is raised."""
    with suppress(ConfigError):
        parse_template(f"Subject: {text}", "x").write(values_of(event()))
