"""[trust], [authentication], [arc] and [dns]: whose mail is ours, and how other mail is checked."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.section import Section


class Trust(Section, frozen=True):
    """Whose mail is ours."""

    networks: Annotated[
        tuple[str, ...],
        Meta(description=("Origins of our own mail: signed, like mail with a login. Networks in CIDR form.")),
    ] = ("127.0.0.0/8", "::1/128")
    relays: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Internal hops (a secondary MX, another filter, a forwarder that serves us): their "
                "Authentication-Results fields are kept, and their Received fields say whose mail it is. "
                "Networks in CIDR form."
            )
        ),
    ] = ()


class Authentication(Section, frozen=True):
    """SPF, DKIM and DMARC of mail from outside."""

    authserv_id: Annotated[
        str,
        Meta(
            description=(
                "Who did the checks, first word of Authentication-Results (RFC 8601 section 2.5). "
                "Empty means this host's name, which must be a full one (`mx.example.org`) then. "
                "Incoming fields that claim it are removed."
            )
        ),
    ] = ""
    max_signatures: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description=(
                "DKIM signatures that are verified in one message, those of the author's domain first."
            ),
        ),
    ] = 8
    max_results_read: Annotated[
        int,
        Meta(
            ge=10,
            le=10_000,
            description=(
                "Authentication-Results fields of one message that are read, to find those that claim to be "
                "ours. Each hop adds one; further ones are taken for forged."
            ),
        ),
    ] = 200
    max_removed_fields: Annotated[
        int,
        Meta(
            ge=10,
            le=10_000,
            description=(
                "Forged fields that are removed from one message; a message with more is rejected (554 "
                "5.6.0). For each, Postfix reads its queue file anew: 8,000 take ten seconds."
            ),
        ),
    ] = 500
    organizational_domain: Annotated[
        Literal["tree-walk", "psl", "both"],
        Meta(
            description=(
                "How DMARC finds a domain's Organizational Domain: `tree-walk` as RFC 9989 has it, `psl` by "
                "the public suffix list as RFC 7489 had it, `both` by the tree walk with a word in the "
                "reason where the list would give another result or record."
            )
        ),
    ] = "tree-walk"
    received_spf: Annotated[
        bool,
        Meta(
            description=(
                "Write Received-SPF too, for readers that do not know Authentication-Results; fields of "
                "that name from outside are then removed."
            )
        ),
    ] = False


class Arc(Section, frozen=True):
    """ARC chains (RFC 8617), an experiment that is being retired: off unless asked for."""

    class Seal(Section, frozen=True):
        """The key with which mail from outside is sealed when it goes on; without it nothing is."""

        domain: Annotated[
            str, Meta(description="The d= of our ARC sets. Empty means that nothing is sealed.")
        ] = ""
        selector: Annotated[str, Meta(description="Their s=.")] = ""
        file: Annotated[
            str,
            Meta(
                description=(
                    "The private key (PEM), RSA, relative to this file. A file that others can read is "
                    "refused."
                )
            ),
        ] = ""

    verify: Annotated[
        bool,
        Meta(
            description=(
                "Validate the ARC chain of mail from outside: for Authentication-Results, for the facts "
                "`arc` and `arc_sealer`, and for sealing."
            )
        ),
    ] = False
    trusted_sealers: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Domains (d=, exactly) whose seals rules may believe: `arc` is `pass` only if one of them "
                "sealed last. Anybody can make a valid chain; an empty list trusts nobody."
            )
        ),
    ] = ()
    seal: Seal = Seal()


class Dns(Section, frozen=True):
    """How DNS is asked."""

    servers: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Servers as `address:port`, `[IPv6]:port` or an address. None means the system's "
                "(/etc/resolv.conf)."
            )
        ),
    ] = ()
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long one question may take, tries and servers included.")
    ] = 5.0
    message_budget_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=120,
            description=(
                "How long all questions of one message may take together (in the policy daemon: of one "
                "request; what an earlier request of the message found is not asked again); then what is "
                "not known is temperror."
            ),
        ),
    ] = 10.0
    max_questions: Annotated[
        int,
        Meta(
            ge=20,
            le=10_000,
            description=(
                "How many questions one message may ask together, for SPF, DKIM, DMARC, ARC and names of "
                "clients, remembered answers included (counted as `message_budget_seconds` is); then what is "
                "not known is temperror. Honest mail asks 5 to 40; what the methods themselves allow without "
                "ARC are 270."
            ),
        ),
    ] = 300
    max_answer_records: Annotated[
        int,
        Meta(
            ge=20,
            le=4000,
            description=(
                "An answer of more records, in all its sections, is not read: temperror. Each costs some 30 "
                "us, and whoever sends mail can publish thousands. The largest honest ones have a hundred."
            ),
        ),
    ] = 200
    cache_entries: Annotated[
        int, Meta(ge=0, description="Answers that a worker remembers, by their TTL.")
    ] = 20_000
