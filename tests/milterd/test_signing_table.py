"""Which keys sign which mail: the rules of [[signing.rules]], then the author's own domain, then tables."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.crypto import format_private_key, generate_ed25519_key
from mailreeve_milter.dkim.sign import SIGNED_NAMES, SigningKey
from mailreeve_milter.keys import load_signing_keys
from mailreeve_milter.signing_table import UNSIGNED, Choice, SigningKeys
from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import Mailbox, parse_domain, parse_mailbox
from mailreeve_policyd.transaction import Session

PEM = format_private_key(generate_ed25519_key())
BOB = Session(sasl_username="Bob@example.org")
OFFICE = Session(client_address=ip_address("192.0.2.7"))

KEYS = """
[[signing.keys]]
domain = "example.org"
selector = "r1"
file = "key.pem"
[[signing.keys]]
domain = "example.org"
selector = "e1"
file = "key.pem"
[[signing.keys]]
domain = "example.net"
selector = "n1"
file = "key.pem"
[[signing.keys]]
domain = "*"
selector = "any"
file = "key.pem"
"""
OWN_DOMAIN = "[[signing.rules]]\n"


def load(folder: Path, text: str) -> SigningKeys:
    (folder / "key.pem").write_bytes(PEM)
    (folder / "key.pem").chmod(0o600)
    return load_signing_keys(parse_configuration(text.encode(), folder / "mailreeve.toml"))


def rule(text: str) -> str:
    return f"[[signing.rules]]\n{text}\n"


def choose(keys: SigningKeys, author: str, session: Session = BOB) -> Choice:
    return keys.choose(parse_mailbox(author), session)


def names(keys: SigningKeys, author: str, session: Session = BOB) -> list[str]:
    """The key names that sign, as `selector.domain`."""
    return [f"{key.selector}.{key.domain}" for key in choose(keys, author, session).keys]


def test_without_rules_the_keys_of_exactly_the_authors_domain_sign(tmp_path: Path) -> None:
    """All of them, in order; a subdomain and a stranger's domain have none."""
    keys = load(tmp_path, KEYS.rpartition("[[signing.keys]]")[0])

    assert names(keys, "a@example.org") == ["r1.example.org", "e1.example.org"]
    assert names(keys, "a@EXAMPLE.net") == ["n1.example.net"]
    assert names(keys, "a@mail.example.org") == []
    assert names(keys, "a@gmail.example") == []


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    """By author, address, subdomain; mail that no rule is for is signed as without rules."""
    keys = load(
        tmp_path,
        KEYS
        + rule('authors = ["robot@example.org"]\ndomains = []')
        + rule('authors = ["*@*.example.org", "news-*@example.org"]\ndomains = ["example.org"]')
        + rule('authors = ["news-1@example.org"]\ndomains = ["example.net"]')
        + rule('authors = ["customer.example"]'),
    )

    assert names(keys, "robot@example.org") == []
    assert names(keys, "a@b.mail.example.org") == ["r1.example.org", "e1.example.org"]
    assert names(keys, "news-1@example.org") == ["r1.example.org", "e1.example.org"]
    assert names(keys, "a@customer.example") == ["any.customer.example"]
    assert names(keys, "a@example.net") == ["n1.example.net"]
    assert names(keys, "a@elsewhere.example") == []


def test_logins_and_networks_are_conditions_as_well(tmp_path: Path) -> None:
    """All conditions of a rule must hold, one of each list is enough; no login matches no login."""
    keys = load(
        tmp_path,
        KEYS
        + rule('logins = ["*@EXAMPLE.org", "carol"]\nauthors = ["example.org"]\nselectors = ["E1"]')
        + rule('networks = ["192.0.2.0/24", "2001:db8::/32"]\ndomains = ["example.net", "example.org"]')
        + rule("domains = []"),
    )
    carol, none = Session(sasl_username="carol"), Session()

    assert names(keys, "a@example.org", BOB) == ["e1.example.org"]
    assert names(keys, "a@example.org", carol) == ["e1.example.org"]
    assert names(keys, "a@example.net", carol) == []
    assert names(keys, "a@x.example", OFFICE) == ["n1.example.net", "r1.example.org", "e1.example.org"]
    assert names(keys, "a@example.org", none) == []


def test_a_key_for_any_domain_signs_where_a_rule_lets_it(tmp_path: Path) -> None:
    """d= is the author's domain then; a domain with keys of its own keeps to them."""
    keys = load(tmp_path, KEYS + rule('logins = ["bob@example.org"]'))

    assert names(keys, "a@customer.example") == ["any.customer.example"]
    assert names(keys, "a@example.org") == ["r1.example.org", "e1.example.org"]
    assert names(keys, "a@customer.example", OFFICE) == []


def test_an_author_without_a_domain_signs_nothing(tmp_path: Path) -> None:
    """There is nothing that d= could be."""
    assert load(tmp_path, KEYS + OWN_DOMAIN).choose(parse_mailbox("postmaster"), BOB) is UNSIGNED


def test_how_to_sign_is_the_rules_or_that_of_all(tmp_path: Path) -> None:
    """What a rule does not say is as in [signing]; what that does not say is the default."""
    keys = load(
        tmp_path,
        '[signing]\noversign = ["From", "Subject"]\nvalid_hours = 48\n'
        + KEYS
        + rule('authors = ["a@example.org"]\ncanonicalization = "simple/relaxed"\nvalid_hours = 0')
        + rule('authors = ["b@example.org"]\nheader_fields = ["Subject", "X-Own"]\noversign = []')
        + OWN_DOMAIN,
    )
    a, b, c = (choose(keys, f"{who}@example.org").options for who in "abc")

    assert (a.header, a.body) == (Canonicalization.SIMPLE, Canonicalization.RELAXED)
    assert (a.oversign, a.valid_for) == ((b"from", b"subject"), None)
    assert (b.names, b.oversign, b.valid_for) == ((b"subject", b"x-own"), (), timedelta(hours=48))
    assert (c.names, c.header, c.body) == (SIGNED_NAMES, *[Canonicalization.RELAXED] * 2)
    assert choose(keys, "x@example.net").options == c


@dataclass(frozen=True)
class Table:
    """A table that signs one address."""

    address: str
    key: SigningKey

    def keys_for(self, author: Mailbox) -> tuple[SigningKey, ...]:
        """Its key, for that address."""
        return (self.key,) if author.text == self.address else ()


def test_tables_are_asked_when_no_rule_and_no_key_is_for_the_author() -> None:
    """One after the other: a domain whose keys moved into mailreeve.toml no longer asks them."""
    private = generate_ed25519_key()
    own = SigningKey(parse_domain("example.org"), parse_domain("own"), private)
    old = SigningKey(parse_domain("example.org"), parse_domain("old"), private)
    older = SigningKey(parse_domain("example.net"), parse_domain("older"), private)
    tables = [Table("a@example.org", old), Table("a@example.net", older), Table("a@example.net", old)]
    keys = SigningKeys([own], tables=tables)

    assert names(keys, "a@example.org") == ["own.example.org"]
    assert names(keys, "a@example.net") == ["older.example.net"]
    assert names(keys, "b@example.net") == []


def test_opendkims_tables_are_read_from_the_configuration(tmp_path: Path) -> None:
    """Their names are those of opendkim.conf; relative ones start at the folder of mailreeve.toml."""
    (tmp_path / "KeyTable").write_text("k %:s1:./key.pem\nl %:s2:./key.pem\n")
    (tmp_path / "SigningTable").write_text("*@example.com k\n*@example.com l\n")
    tables = '[signing.opendkim]\nkey_table = "file:KeyTable"\nsigning_table = "refile:SigningTable"\n'

    assert names(load(tmp_path, tables), "a@example.com") == ["s1.example.com"]
    with_multiple = load(tmp_path, tables + "multiple_signatures = true\n")
    assert names(with_multiple, "a@example.com") == ["s1.example.com", "s2.example.com"]


@pytest.mark.parametrize("option", ["oversign", "header_fields"])
@pytest.mark.parametrize("place", ["[signing]", "[[signing.rules]]"])
def test_a_field_that_cannot_be_signed_is_told_with_its_place(
    tmp_path: Path, option: str, place: str
) -> None:
    """In [signing] and in a rule."""
    with pytest.raises(ConfigError, match=rf"signing.*\.{option}: Received changes on the way"):
        load(tmp_path, f'{place}\n{option} = ["Subject", "Received"]\n')
