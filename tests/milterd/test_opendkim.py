"""OpenDKIM's tables: what they mean, with OpenDKIM itself as the judge, and what is refused in them."""

import base64
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.dkim.crypto import format_private_key, generate_ed25519_key, key_type
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.opendkim import OpenDkimTables, SigningTable, load_tables
from mailreeve_milter.opendkim_file import parse_table
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import parse_domain, parse_mailbox
from tests.lab import opendkim
from tests.milterd.test_dkim_crypto import VECTOR_KEYS

KEY = (VECTOR_KEYS / "rfc6376.pem").read_bytes()
INLINE = base64.b64encode(base64.b64decode(b"".join(KEY.splitlines()[1:-1]))).decode()

KEY_TABLE = """\
# names of keys            domain:selector:key
one example.org:s1:{folder}/key.pem
  two	 example.org:s2:./key.pem   # a comment
any %:s3:{folder}/key.pem
far example.net:s4:{folder}/key.pem
last example.net:s7:{folder}/key.pem
both example.org:s5:{folder}/%.pem
example.org example.org:own:{folder}/key.pem
sub.example.org %:own:{folder}/key.pem
each %:s6:{folder}/each/%/key.pem
One example.org:capital:{folder}/key.pem
one example.org:never:{folder}/key.pem
"""

FILE_TABLE = """\
alice@example.org one
# bob@example.org one
bob@example.org two:bob@example.org
example.org one
carol@.example.org two
.example.org far
carol@* any:carol@%
*	 both
EXAMPLE.COM any
"""

REFILE_TABLE = """\
alice@example.org one
*@example.org two:@%
*@*.example.org far
ali*@example.org any
*e@example.*  both:@mail.example.org
*@example.com %
*@sub.example.org %
*.co+m@EXAMPLE.com any
* last:elsewhere@example.com
"""

AUTHORS = (
    "alice@example.org",
    "Alice@Example.ORG",
    "bob@example.org",
    "carol@example.org",
    "alice@sub.example.org",
    "carol@a.b.sub.example.org",
    "carol@example.com",
    "x.co+m@example.com",
    "x.com@example.com",
    "dave@example.net",
    "alice@each.example",
    "bob@notexample.org",
)


def write(folder: Path, name: str, text: str, mode: int = 0o600) -> Path:
    file = folder / name
    file.write_text(text.replace("{folder}", str(folder)))
    file.chmod(mode)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the key, also under the names that % stands for."""
    for place in ("key.pem", "example.org.pem", "each/each.example/key.pem", "each/sub.example.org/key.pem"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path, place, KEY.decode())
    return tmp_path


def load(
    folder: Path,
    signing: str,
    keys: str = KEY_TABLE,
    *,
    form: str = "refile",
    key_form: str = "file",
    multiple: bool = False,
) -> OpenDkimTables:
    write(folder, "KeyTable", keys)
    write(folder, "SigningTable", signing)
    names = f"{key_form}:KeyTable", f"{form}:SigningTable"
    return load_tables(*names, folder, KeyFiles(), multiple=multiple)


def found(tables: OpenDkimTables, author: str) -> list[opendkim.Made]:
    keys = tables.keys_for(parse_mailbox(author))
    return [opendkim.Made(key.domain, key.selector, key.identity or None) for key in keys]


@pytest.mark.system
@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize(("form", "table"), [("file", FILE_TABLE), ("refile", REFILE_TABLE)])
def test_the_tables_mean_what_opendkim_takes_them_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, table: str, multiple: bool
) -> None:
    """Both forms, first match and all matches: d=, s= and i= are those of OpenDKIM, author for author."""
    monkeypatch.chdir(folder)  # OpenDKIM reads ./ from where it was started
    tables = load(folder, table, form=form, multiple=multiple)
    names = f"file:{folder}/KeyTable", f"{form}:{folder}/SigningTable"

    for author in AUTHORS:
        message = f"From: <{author}>\r\n\r\nbody\r\n".encode()
        if form == "refile" and author.endswith("@example.com"):
            continue  # a % whose domain the key table does not have: OpenDKIM defers such mail
        ours = found(tables, author)
        # its manual says that all matches sign; the program forgets those between the first and the last
        told = ours if len(ours) <= 2 else [ours[0], ours[-1]]
        assert told == opendkim.sign(message, *names, folder, multiple=multiple), author


def error_of(folder: Path, signing: str, keys: str = KEY_TABLE, form: str = "refile") -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load(folder, signing, keys, form=form)
    return raised.value


def selectors(tables: OpenDkimTables, author: str) -> list[str]:
    return [made.selector for made in found(tables, author)]


def test_the_first_line_signs_or_all_do(folder: Path) -> None:
    """Without MultipleSignatures one line signs; with it all that match do, each key once."""
    table = "*@example.org one\nalice@example.org two\n* one\n"

    assert selectors(load(folder, table), "alice@example.org") == ["s1"]
    assert selectors(load(folder, table, multiple=True), "alice@example.org") == ["s1", "s2"]


def test_percent_stands_for_the_authors_domain(folder: Path) -> None:
    """As the name of the key, as d=, in i= and in the path of the key."""
    tables = load(folder, "*@each.example each:post@%\n* %\n")

    assert found(tables, "a@each.example") == [opendkim.Made("each.example", "s6", "post@each.example")]
    assert found(tables, "a@example.org") == [opendkim.Made("example.org", "own", None)]
    assert found(tables, "a@sub.example.org") == [opendkim.Made("sub.example.org", "own", None)]


def test_an_author_without_a_key_is_not_signed(folder: Path) -> None:
    """OpenDKIM defers such mail; a domain that nobody made a key for leaves unsigned here."""
    tables = load(folder, "*@a.example each\n* %\n")

    assert found(tables, "a@a.example") == []
    assert found(tables, "a@b.example") == []


def test_an_identity_outside_of_the_domain_is_left_out(folder: Path) -> None:
    """i= must lie within d= (RFC 6376 section 3.5)."""
    tables = load(folder, "*@example.org one:a@example.com\n*@example.com one:a@b.example.org\n")

    assert found(tables, "a@example.org")[0].identity is None
    assert found(tables, "a@example.com")[0].identity == "a@b.example.org"


def test_a_key_table_with_patterns(folder: Path) -> None:
    """The names of keys may be patterns, too, which mind case; the first line that matches is taken."""
    keys = "a* example.org:a:{folder}/key.pem\nab example.org:b:{folder}/key.pem\n* %:any:{folder}/key.pem\n"
    signing = "a@example.org ab\nb@example.org AB\nc@example.org abc\n* %\n"
    tables = load(folder, signing, keys, key_form="refile")

    assert [selectors(tables, f"{who}@example.org") for who in "abcd"] == [["a"], ["any"], ["a"], ["any"]]
    assert found(tables, "x@z.example") == [opendkim.Made("z.example", "any", None)]


def test_a_key_may_stand_in_the_table(folder: Path) -> None:
    """As base64 of DER, with the lines of PEM around it or not."""
    pem = f"-----BEGIN RSA PRIVATE KEY----- {INLINE} -----END RSA PRIVATE KEY-----"
    keys = f"a example.org:a:{INLINE}\nb example.org:b:{pem}\n"

    assert selectors(load(folder, "* a\n* b\n", keys, multiple=True), "a@example.org") == ["a", "b"]


def test_a_table_with_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    """The table is then a key file like any other."""
    write(folder, "KeyTable", f"a example.org:a:{INLINE}\n", mode=0o644)
    write(folder, "SigningTable", "* a\n")

    with pytest.raises(ConfigError, match="KeyTable:1: others can read or change"):
        load_tables("file:KeyTable", "refile:SigningTable", folder, KeyFiles(), multiple=False)


def test_an_algorithm_behind_the_key(folder: Path) -> None:
    """Newer versions of OpenDKIM name it, to sign with RSA and Ed25519; a path may hold a colon."""
    write(folder, "ed:25519.pem", format_private_key(generate_ed25519_key()).decode())
    keys = "r example.org:r:./key.pem:rsa-sha256\ne example.org:e:./ed:25519.pem:ed25519-sha256\n"
    tables = load(folder, "* r\n* e\n", keys, multiple=True)

    made = tables.keys_for(parse_mailbox("a@example.org"))
    assert [(key.selector, key_type(key.private_key)) for key in made] == [("r", "rsa"), ("e", "ed25519")]


def test_a_domain_with_u_labels(folder: Path) -> None:
    """A table may write them; mail has A-labels."""
    for form in ("file", "refile"):
        sign = "bücher.example one\n.bücher.example two\n"
        if form == "refile":
            sign = "*@bücher.example one\n*@*.bücher.example two\n"
        tables = load(folder, sign, form=form)
        assert selectors(tables, "a@xn--bcher-kva.example") == ["s1"]
        assert selectors(tables, "a@x.xn--bcher-kva.example") == ["s2"]


def test_many_lines_cost_no_time_a_message(folder: Path) -> None:
    """Patterns of one domain are looked up, so that the place in the table does not matter."""
    table = "".join(f"*@d{number}.example one\n" for number in range(20_000)) + "*@example.org two\n"
    tables = load(folder, table)

    assert all(selectors(tables, "a@example.org") == ["s2"] for _ in range(2000))


def test_a_line_that_can_have_no_effect_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second line for the same author in a file without patterns, and keys that nobody asks for."""
    with caplog.at_level(logging.WARNING):
        load(folder, "example.org one\nExample.ORG two\n", form="file")

    assert "SigningTable:2 has no effect: line 1" in caplog.text
    assert "KeyTable: 9 keys are not used" in caplog.text


def test_a_key_that_nobody_asks_for_is_not_read(folder: Path) -> None:
    """OpenDKIM does not read it either, so that it may be missing."""
    keys = "one example.org:s1:./key.pem\ngone example.org:s2:./gone.pem\n"

    assert selectors(load(folder, "* one\n", keys), "a@example.org") == ["s1"]


@pytest.mark.parametrize(
    ("signing", "keys", "said"),
    [
        (
            "* one\n\n*@example.org three\n",
            KEY_TABLE,
            "SigningTable:3: the key table has no key named 'three'",
        ),
        ("* one,two\n", KEY_TABLE, "SigningTable:1: the key table has no key named 'one,two'"),
        ("* ONE\n", KEY_TABLE, "no key named 'ONE'"),
        ("example.org\n", KEY_TABLE, "SigningTable:1: names no key"),
        ("* one:alice\n", KEY_TABLE, "SigningTable:1: no address for i=: 'alice'"),
        ("*@(a|b).example one\n", KEY_TABLE, "holds ( ) |, which"),
        (" * one\n", KEY_TABLE, "SigningTable:1: begins with white space"),
        ("* a\n", "# a\na example.org:s1\n", "KeyTable:2: is no key"),
        ("* a\n", "a example.org\n", "KeyTable:1: is no key"),
        ("* a\n", "a\n", "KeyTable:1: is no key"),
        ("* a\n", "a :s1:./key.pem\n", "KeyTable:1: is no key"),
        ("* a\n", "a example..org:s1:./key.pem\n", "KeyTable:1: not a domain and a selector"),
        ("* a\n", "a example.org:s1:key.pem\n", "KeyTable:1: neither a path nor a private key"),
        ("* a\n", "a example.org:s1:./gone.pem\n", "KeyTable:1: {folder}/gone.pem cannot be read"),
        ("* a\n", "a example.org:s1:./key.pem:ed25519-sha256\n", "KeyTable:1: the key is not for ed25519"),
        ("* a\n", "a example.org:s1:./key.pem:rsa-sha1\n", "KeyTable:1: rsa-sha1 is no longer accepted"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(folder: Path, signing: str, keys: str, said: str) -> None:
    """Also what OpenDKIM would only find when mail comes; each with what would be right."""
    error = error_of(folder, signing, keys)

    assert said.replace("{folder}", str(folder)) in str(error)
    assert error.file.startswith(str(folder))
    assert error.hint


@pytest.mark.parametrize("key", ["*@example.org", "a*@example.org", "*.example.org", "a*b"])
def test_a_pattern_in_a_file_without_patterns_is_told(folder: Path, key: str) -> None:
    """OpenDKIM would take the asterisk for a letter and never sign, the usual mistake with these tables."""
    error = error_of(folder, f"{key} one\n", form="file")

    assert "is a pattern" in error.problem
    assert "refile:" in (error.hint or "")


@pytest.mark.parametrize("key", ["*", "a@*"])
def test_the_asterisks_that_a_file_without_patterns_may_have(folder: Path, key: str) -> None:
    """`*` and `user@*` are words of the format there."""
    assert selectors(load(folder, f"{key} one\n", form="file"), "a@example.org") == ["s1"]


@pytest.mark.parametrize("name", ["file:gone", "refile:gone", "/nowhere/at/all", "file:."])
def test_a_table_that_cannot_be_read_is_named(folder: Path, name: str) -> None:
    """A missing file, and a folder in the place of one."""
    write(folder, "KeyTable", KEY_TABLE)

    with pytest.raises(ConfigError, match=r"cannot be read|no regular file"):
        load_tables("file:KeyTable", name, folder, KeyFiles(), multiple=False)


@settings(max_examples=150)
@given(st.text(st.sampled_from("a*@.% \t\n:/#'\\ü\0"), max_size=60), st.text(max_size=60), st.booleans())
def test_any_text_is_a_table_or_a_mistake(text: str, local_part: str, has_patterns: bool) -> None:
    """Nothing but a ConfigError is ever raised, and any author is answered."""
    here = Path(__file__)
    try:
        file = parse_table(text.encode(), here, here.stat(), has_patterns=has_patterns)
        table = SigningTable(file)
    except ConfigError:
        return
    assert set(table.for_author(local_part, parse_domain("a.example"))) <= set(table)
