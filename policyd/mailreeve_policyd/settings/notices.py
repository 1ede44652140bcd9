"""[notices]: who is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mailreeve_policyd.settings.section import Section


class Notices(Section, frozen=True):
    """Who is told what rules notify of, and of limits that are near or exceeded (docs/notices.md)."""

    mail_to: Annotated[
        tuple[str, ...],
        Meta(description="The administrators' addresses, which are mailed every notice. None means nobody."),
    ] = ()
    mail_user: Annotated[
        bool,
        Meta(
            description=(
                "Tell the user, too, whose own limit (`per sasl_username`) is near or exceeded: at the "
                "login, where it is an address, or as `user_addresses` or `user_domain` say."
            )
        ),
    ] = False
    user_addresses: Annotated[
        str,
        Meta(
            description=(
                "A table of users' addresses, relative to this file, a line each: `login,address`. Read at "
                "the start and at a reload."
            )
        ),
    ] = ""
    user_domain: Annotated[
        str, Meta(description="The domain of logins without one: bob is bob@example.org with `example.org`.")
    ] = ""
    mail_from: Annotated[
        str,
        Meta(
            description=(
                "The From field of notices. Empty means `mailreeve@` and this host's name. Their envelope "
                "has no sender, so that they never bounce."
            )
        ),
    ] = ""
    smtp_server: Annotated[
        str,
        Meta(
            description=(
                "Who takes notices, `inet:port@host` or `inet:host:port`: the mail server beside us, or one "
                "that takes mail of this host without a login."
            )
        ),
    ] = "inet:25@127.0.0.1"
    webhook_url: Annotated[
        str,
        Meta(
            description=(
                "Where each notice is posted as JSON (docs/notices.md): `https://`; `http://` on loopback "
                "alone. Never logged, as it may hold a secret: with a query, or a path and no "
                "`webhook_secret_file`, it is refused in a file that others can read. Empty means nowhere."
            )
        ),
    ] = ""
    webhook_secret_file: Annotated[
        str,
        Meta(
            description=(
                "A secret, in the first line of a file, with which each post is signed "
                "(`Mailreeve-Signature`). A file that others can read is refused."
            )
        ),
    ] = ""
    webhook_ca_file: Annotated[
        str,
        Meta(
            description=(
                "The certificate authorities (PEM) that the server's certificate is checked against. Empty "
                "means those of the system."
            )
        ),
    ] = ""
    language: Annotated[
        str,
        Meta(
            description=(
                "The language of the administrators' mail, and of users whose language the rules do not say "
                "(`reply-language`): `en` and `de` are built in, others are templates."
            )
        ),
    ] = "en"
    templates: Annotated[
        str,
        Meta(
            description=(
                "A folder, relative to this file, with texts of your own: `notice.en.txt`, "
                "`notice.warning.de.txt`. Empty means those that are built in."
            )
        ),
    ] = ""
    timeout_seconds: Annotated[
        float,
        Meta(gt=0, le=60, description="How long each answer of the mail server or the webhook may take."),
    ] = 10.0
    tries: Annotated[
        int, Meta(ge=1, le=20, description="How often a notice is tried before it is given up.")
    ] = 5
    retry_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description=(
                "Until the second try; each further one waits twice as long, and all up to a quarter longer, "
                "so that hosts do not come at once. With five tries: within ten minutes."
            ),
        ),
    ] = 30.0
    queue_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description=(
                "Notices that may wait in a worker for the mail server, and as many for the webhook. More "
                "are dropped, logged once and counted: a decision never waits."
            ),
        ),
    ] = 1000
    most_an_hour: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description=(
                "Notices that a worker mails to one person in an hour, so that a crowd of strangers, each "
                "over a limit of its own, fills no mailbox. More are dropped, logged once and counted; "
                "the record has them all."
            ),
        ),
    ] = 100
