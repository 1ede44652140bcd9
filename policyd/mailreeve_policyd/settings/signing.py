"""[signing]: DKIM signatures for our own mail (RFC 6376)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.section import Section

Canonicalizations = Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]

MAX_VALID_HOURS = 8760
"""A year: longer means "without end", which is 0."""


class Signing(Section, frozen=True):
    """DKIM signatures for our own mail; the keys stand in [[signing.keys]]."""

    class Key(Section, frozen=True):
        """One key. Two keys of one domain sign side by side."""

        domain: Annotated[
            str,
            Meta(
                description=(
                    "The author domain (From) that it signs for, and the d= of the signature. `*` means "
                    "any author domain without a key of its own that a rule in [[signing.rules]] allows."
                )
            ),
        ]
        selector: Annotated[str, Meta(description="The s= of the signature.")]
        file: Annotated[
            str,
            Meta(
                description=(
                    "The private key (PEM), RSA or Ed25519, relative to this file. A file that others "
                    "can read is refused."
                )
            ),
        ]

    class Rule(Section, frozen=True):
        """Which keys sign which mail, where it is not simply the author domain's; the first match decides."""

        authors: Annotated[
            tuple[str, ...],
            Meta(
                description=(
                    "Author addresses (From): `example.org`, `alice@example.org`, `*@*.example.org` "
                    "(subdomains alone), `*`. None means any author."
                )
            ),
        ] = ()
        logins: Annotated[
            tuple[str, ...],
            Meta(
                description=(
                    "SASL logins, with `*` for any characters. None means any login, or mail without one."
                )
            ),
        ] = ()
        networks: Annotated[
            tuple[str, ...],
            Meta(description="Clients, as networks in CIDR form. None means any client of ours."),
        ] = ()
        domains: Annotated[
            tuple[str, ...] | None,
            Meta(
                description=(
                    "The d= of the signatures: all keys of these domains sign, such as a parent of the "
                    "author domain. Not given means the author domain's own; [] leaves the mail unsigned."
                )
            ),
        ] = None
        selectors: Annotated[
            tuple[str, ...],
            Meta(description="Only keys with these selectors sign. None means all keys of the domains."),
        ] = ()
        canonicalization: Annotated[
            Canonicalizations | None, Meta(description="As in [signing], for this mail.")
        ] = None
        header_fields: Annotated[
            tuple[str, ...] | None, Meta(description="As in [signing], for this mail.")
        ] = None
        oversign: Annotated[tuple[str, ...] | None, Meta(description="As in [signing], for this mail.")] = (
            None
        )
        valid_hours: Annotated[
            Annotated[int, Meta(ge=0, le=MAX_VALID_HOURS)] | None,
            Meta(description="As in [signing], for this mail."),
        ] = None

    class OpenDkim(Section, frozen=True):
        """The tables of OpenDKIM, read as they are, for authors whom no rule and no key here names."""

        key_table: Annotated[
            str,
            Meta(
                description=(
                    "OpenDKIM's KeyTable: `file:/path`, `refile:/path` or `/path`, as in opendkim.conf. "
                    "Tables in databases, LDAP or Lua cannot be read."
                )
            ),
        ] = ""
        signing_table: Annotated[
            str, Meta(description="OpenDKIM's SigningTable, in the same forms; needed with key_table.")
        ] = ""
        multiple_signatures: Annotated[
            bool,
            Meta(
                description=(
                    "OpenDKIM's MultipleSignatures: every line of the signing table that matches makes a "
                    "signature, not only the first."
                )
            ),
        ] = False

    keys: Annotated[
        tuple[Key, ...], Meta(description="The keys, one table each. `mailreeve keys new DOMAIN` makes them.")
    ] = ()
    rules: Annotated[
        tuple[Rule, ...],
        Meta(
            description=(
                "Exceptions to 'the keys of exactly the author domain sign', one table each, in order."
            )
        ),
    ] = ()
    canonicalization: Annotated[
        Canonicalizations,
        Meta(
            description=(
                "c= of header and body (RFC 6376 section 3.4): `relaxed` survives changed white space, "
                "`simple` survives nothing."
            )
        ),
    ] = "relaxed/relaxed"
    header_fields: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Header fields that are signed where they are there, instead of the usual ones "
                "(docs/dkim.md). None means those. From always is."
            )
        ),
    ] = ()
    oversign: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Header fields of which none may be added after signing (RFC 6376 section 8.15). From "
                "is always among them."
            )
        ),
    ] = ("From",)
    valid_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_VALID_HOURS,
            description=(
                "Hours until signatures expire (x=), against replayed mail; mail may wait in queues for "
                "five days (120). 0 means never."
            ),
        ),
    ] = 0
    opendkim: OpenDkim = OpenDkim()
