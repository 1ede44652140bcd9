"""Every option of mailreeve.toml: its type, unit, default and the problem it solves, described once.

The reference page and the commented example file are made from these classes (admin/config_reference).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

StageName = Literal["connect", "helo", "mail", "rcpt", "data", "end-of-message"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""


class Policyd(_Section, frozen=True):
    """The policy daemon (`mailreeve policyd`)."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Where Postfix's check_policy_service finds the daemon: `unix:/path` or "
                "`inet:port@host`; several may be given."
            )
        ),
    ] = ("unix:/run/mailreeve/policy.sock",)
    socket_mode: Annotated[
        str, Meta(description=("Permissions of unix sockets, octal. Postfix's smtpd must be able to write."))
    ] = "0660"
    socket_group: Annotated[
        str,
        Meta(
            description=(
                "The group of unix sockets, such as `postfix`, which `socket_mode` lets in. Empty means "
                "the daemon's own. Who is not root must be in it. Sockets that systemd opens have the "
                "SocketGroup= and SocketMode= of their unit."
            )
        ),
    ] = ""
    decides: Annotated[
        tuple[StageName, ...],
        Meta(
            description=(
                "The stages that this daemon decides. Each stage with rules is decided by exactly one "
                "daemon, "
                "so that nothing is counted twice."
            )
        ),
    ] = ("connect", "helo", "mail", "rcpt", "data")
    workers: Annotated[int, Meta(ge=0, le=64, description="Worker processes; 0 means one a core.")] = 1
    recycle_after_requests: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker that has answered so many requests is replaced: another serves first, then it "
                "finishes what it holds. 0 means never."
            ),
        ),
    ] = 0
    max_worker_memory_mb: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker whose memory (RSS, in MB of 2^20 octets) is larger is replaced in the same way. 0 "
                "means never."
            ),
        ),
    ] = 300
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description=(
                "Connections that a worker serves at once; further ones wait in the socket's backlog."
            ),
        ),
    ] = 1000
    idle_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=86_400.0,
            description=(
                "A connection that asks nothing for so long is closed, so that clients that are gone do "
                "not take up places. Longer than Postfix keeps one: smtpd_policy_service_max_idle (300s) "
                "and smtpd_policy_service_max_ttl (1000s)."
            ),
        ),
    ] = 3600.0
    request_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description=(
                "A client that takes longer to send one request is disconnected. As long as Postfix itself "
                "waits (smtpd_policy_service_timeout, 100s)."
            ),
        ),
    ] = 100.0
    total_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=604_800.0,
            description=(
                "A connection is closed after so long, when what it asked is answered: nobody keeps a place "
                "for ever by asking now and then. Postfix makes a new one after "
                "smtpd_policy_service_max_ttl (1000s) anyway."
            ),
        ),
    ] = 86_400.0


class Milter(_Section, frozen=True):
    """The milter (`mailreeve milter`)."""

    engine: Annotated[
        Literal["libmilter", "native"],
        Meta(
            description=(
                "What speaks to the MTA: `native`, our own protocol code, or `libmilter` (Sendmail's "
                "library by pymilter), which takes more of the processor and lets only some ten messages "
                "of a worker wait for DNS at once."
            )
        ),
    ] = "native"

    listen: Annotated[
        str,
        Meta(
            description=("Where the MTA's smtpd_milters finds the daemon: `unix:/path` or `inet:port@host`.")
        ),
    ] = "unix:/run/mailreeve/milter.sock"
    socket_mode: Annotated[str, Meta(description="Permissions of a unix socket, octal.")] = "0660"
    socket_group: Annotated[
        str,
        Meta(
            description=(
                "The group of a unix socket, such as `postfix`, which `socket_mode` lets in. Empty means "
                "the daemon's own. Who is not root must be in it. A socket that systemd opens has the "
                "SocketGroup= and SocketMode= of its unit."
            )
        ),
    ] = ""
    decides: Annotated[
        tuple[StageName, ...],
        Meta(
            description=(
                "The stages that this daemon decides. Without a policy protocol (Sendmail) the milter "
                "decides all of them."
            )
        ),
    ] = ("end-of-message",)
    workers: Annotated[int, Meta(ge=0, le=64, description="Worker processes; 0 means one a core.")] = 1
    recycle_after_messages: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker that has answered so many messages is replaced: another serves first, then it "
                "finishes what it holds. 0 means never."
            ),
        ),
    ] = 0
    max_worker_memory_mb: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "A worker whose memory (RSS, in MB of 2^20 octets) is larger is replaced in the same way. 0 "
                "means never."
            ),
        ),
    ] = 300
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description=(
                "Connections that a worker of the native engine serves at once; further ones wait in the "
                "socket's backlog. Ten times what Postfix opens by default (default_process_limit, 100). "
                "libmilter knows no such bound."
            ),
        ),
    ] = 1000
    idle_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=86_400.0,
            description=(
                "A connection on which the MTA says nothing for so long is closed. Two hours and a little, "
                "libmilter's own time: an MTA is silent while its client takes its time."
            ),
        ),
    ] = 7210.0
    packet_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description=(
                "An MTA that takes longer to send one packet of the protocol, or to take its answer, is "
                "disconnected (native engine). As long as Postfix waits for the longest answers "
                "(milter_content_timeout, 300s)."
            ),
        ),
    ] = 300.0
    total_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=604_800.0,
            description=(
                "A connection is closed after so long, but never while a message is being judged (native "
                "engine). No SMTP session lasts a day."
            ),
        ),
    ] = 86_400.0
    max_header_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description=(
                "Octets of header that are looked at. A message with more is treated as one whose "
                "checks cannot be done: "
                "`on_unknown` applies."
            ),
        ),
    ] = 1_048_576


class Trust(_Section, frozen=True):
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


class Authentication(_Section, frozen=True):
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


Canonicalizations = Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]

MAX_VALID_HOURS = 8760
"""A year: longer means "without end", which is 0."""


class Signing(_Section, frozen=True):
    """DKIM signatures for our own mail; the keys stand in [[signing.keys]]."""

    class Key(_Section, frozen=True):
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

    class Rule(_Section, frozen=True):
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

    class OpenDkim(_Section, frozen=True):
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


class Arc(_Section, frozen=True):
    """ARC chains (RFC 8617), an experiment that is being retired: off unless asked for."""

    class Seal(_Section, frozen=True):
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


class Dns(_Section, frozen=True):
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
    cache_entries: Annotated[
        int, Meta(ge=0, description="Answers that a worker remembers, by their TTL.")
    ] = 20_000


class Limits(_Section, frozen=True):
    """Where limits are counted."""

    store: Annotated[
        Literal["sqlite", "redis"],
        Meta(
            description=(
                "`sqlite`: in the state directory, for one machine. `redis`: shared by several machines."
            )
        ),
    ] = "sqlite"
    redis_url: Annotated[
        str,
        Meta(
            description=(
                "`redis://[user[:password]@]host[:port][/db]`, `rediss://` with TLS, or "
                '`unix:///path?db=0`. Needed with `store = "redis"`. Special characters of a password as '
                "%40 (@), %2F (/), %3A (:). With `redis_sentinels` the host is the master's name."
            )
        ),
    ] = ""
    redis_password_file: Annotated[
        str,
        Meta(
            description=(
                "The password, as it is, in the first line of a file, so that neither this file nor its "
                "copies hold it. A file that others can read is refused."
            )
        ),
    ] = ""
    redis_ca_file: Annotated[
        str,
        Meta(
            description=(
                "The certificate authorities (PEM) that Redis' certificate is checked against, with "
                "`rediss://`. Empty means those of the system."
            )
        ),
    ] = ""
    redis_certificate_file: Annotated[
        str, Meta(description="Our certificate (PEM), where Redis asks for one (`tls-auth-clients`).")
    ] = ""
    redis_key_file: Annotated[str, Meta(description="Its private key (PEM).")] = ""
    redis_sentinels: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Sentinels, which know where the master is: `host`, `host:port`, or a URL as `redis_url` "
                "where they ask for a password or TLS. All of them, so that one may be away."
            )
        ),
    ] = ()
    redis_cluster: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Further nodes of the Redis Cluster that `redis_url` is a node of, as `host` or "
                "`host:port`: whichever answers tells of all others. Empty means no Cluster."
            )
        ),
    ] = ()
    redis_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=10,
            description=(
                "How long each step may take: to connect, to answer, to wait for a connection that is "
                "free. A request that meets the beginning of an outage waits for a few of them, no other "
                "does; Postfix waits for 100 seconds."
            ),
        ),
    ] = 1.0
    on_unavailable: Annotated[
        Literal["local", "open", "closed"],
        Meta(
            description=(
                "When the store is away: `local` counts in this machine's SQLite meanwhile, `open` "
                "lets mail through uncounted, `closed` defers it. A limit may say otherwise for itself "
                "(`on-unavailable`)."
            )
        ),
    ] = "local"
    ipv4_prefix: Annotated[
        int,
        Meta(
            ge=8,
            le=32,
            description=(
                "Bits of an IPv4 address that make the fact `client_network`; `client_address` is always "
                "counted whole."
            ),
        ),
    ] = 32
    ipv6_prefix: Annotated[
        int,
        Meta(
            ge=32,
            le=128,
            description=(
                "Bits of an IPv6 address that make the fact `client_network`, and that a limit "
                "`per client_address` counts by: a customer has a network, not an address."
            ),
        ),
    ] = 64
    remember_seconds: Annotated[
        int,
        Meta(
            ge=60,
            description=(
                "How long a message that was counted is remembered, so that it is not counted again "
                "when it is asked about again."
            ),
        ),
    ] = 3600


class Live(_Section, frozen=True):
    """Sets and tables that rules ask in Redis: `set staff = redis "staff"` (docs/sets-and-tables.md)."""

    redis_url: Annotated[
        str,
        Meta(
            description=(
                "The Redis with them, as `limits.redis_url`; its files for TLS and its timeout are those of "
                "[limits]. Empty means the Redis of [limits], however that is reached."
            )
        ),
    ] = ""
    redis_password_file: Annotated[
        str, Meta(description="Its password, as `limits.redis_password_file`; needs `redis_url` here.")
    ] = ""


class GeoIp(_Section, frozen=True):
    """Where clients are, for the facts `client_country` and `client_asn`; read again when a file changes."""

    country: Annotated[
        str,
        Meta(
            description=(
                "A file of countries in MaxMind's format (GeoLite2-Country.mmdb, dbip-country-lite.mmdb), "
                "relative to this file. Empty means that no rule asks `client_country`."
            )
        ),
    ] = ""
    asn: Annotated[
        str,
        Meta(
            description=(
                "A file of autonomous systems in MaxMind's format (GeoLite2-ASN.mmdb), relative to this "
                "file. Empty means that no rule asks `client_asn`."
            )
        ),
    ] = ""


class Notices(_Section, frozen=True):
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
                "alone. Never logged, as it may hold a secret. Empty means nowhere."
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


class Audit(_Section, frozen=True):
    """The record: one JSON line a decision and a message (docs/audit.md)."""

    to: Annotated[
        Literal["stdout", "file", "syslog", "journal"],
        Meta(
            description=(
                "Where the record goes: `stdout` (a container's log, or under systemd the journal), `file`, "
                "`syslog` (the service of [syslog]), or `journal`, systemd's, where each line has fields to "
                "search by (`journalctl MAILREEVE_QUEUE_ID=...`)."
            )
        ),
    ] = "stdout"
    file: Annotated[
        str, Meta(description='The file, with `to = "file"`; it is opened anew when it was rotated.')
    ] = "/var/log/mailreeve/audit.jsonl"


class Log(_Section, frozen=True):
    """What the daemons say of themselves: starts, reloads, trouble (docs/log-messages.md)."""

    to: Annotated[
        Literal["stderr", "syslog"],
        Meta(
            description=(
                "Where it goes: standard error, which systemd hands to the journal with its level, or the "
                "service of [syslog]. What a daemon says before it has read this file goes to standard error."
            )
        ),
    ] = "stderr"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="`text` for people; `json`, an object a line, for programs that collect logs."),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(
            description=(
                "The least that is said: `warning` leaves out starts, reloads and clients that came and went."
            )
        ),
    ] = "info"


class Syslog(_Section, frozen=True):
    """The log service of `audit.to = "syslog"` and `log.to = "syslog"`."""

    address: Annotated[
        str,
        Meta(
            description=(
                "`unix:/dev/log`, this machine's, or `udp:192.0.2.9:514`, an IP address and a port "
                "(RFC 5424; datagrams that are lost are lost, and everybody on the way can read them)."
            )
        ),
    ] = "unix:/dev/log"
    facility: Annotated[
        Literal[
            "user",
            "mail",
            "daemon",
            "auth",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ],
        Meta(description="What the service sorts by; also in the journal (SYSLOG_FACILITY)."),
    ] = "mail"


class Metrics(_Section, frozen=True):
    """Numbers for Prometheus, and whether the daemons are well, over HTTP (docs/metrics.md)."""

    policyd_listen: Annotated[
        str,
        Meta(
            description=(
                "Where the policy daemon answers `/metrics`, `/healthz` and `/readyz`, for instance "
                "`inet:8925@127.0.0.1`. Empty means nowhere, and nothing is counted. It asks nobody who "
                "they are: listen where only those come who may know. With `mailreeve run` each address "
                "that is given tells the numbers of both daemons: give one."
            )
        ),
    ] = ""
    milter_listen: Annotated[
        str, Meta(description="Where the milter does, for instance `inet:8926@127.0.0.1`.")
    ] = ""


class Settings(_Section, frozen=True):
    """The whole file."""

    rules: Annotated[str, Meta(description="The rules file, relative to this file.")] = "rules"
    state_dir: Annotated[
        str, Meta(description="Where the embedded limit store lives; shared by both daemons.")
    ] = "/var/lib/mailreeve"
    user: Annotated[
        str,
        Meta(
            description=(
                "The account that the daemons run as when started by root, and that owns new keys. "
                "Empty means no change of user."
            )
        ),
    ] = ""
    group: Annotated[str, Meta(description="The group; empty means the user's own.")] = ""
    on_unknown: Annotated[
        Literal["defer", "ignore"],
        Meta(
            description=(
                "What a reject rule does when a fact it needs cannot be known now (DNS is away): "
                "`defer` the mail, or `ignore` the rule. "
                "A rule's own `on-unknown` goes first."
            )
        ),
    ] = "defer"
    drain_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description=("How long a worker that is to end may take to finish the mail that it holds."),
        ),
    ] = 30.0
    hung_after_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description=(
                "A worker whose loop has not come round for so long is killed and replaced; its mail is "
                "deferred. Nothing that a worker does takes seconds. 0 means never."
            ),
        ),
    ] = 60.0
    policyd: Policyd = Policyd()
    milter: Milter = Milter()
    trust: Trust = Trust()
    authentication: Authentication = Authentication()
    signing: Signing = Signing()
    arc: Arc = Arc()
    dns: Dns = Dns()
    limits: Limits = Limits()
    live: Live = Live()
    geoip: GeoIp = GeoIp()
    notices: Notices = Notices()
    metrics: Metrics = Metrics()
    audit: Audit = Audit()
    log: Log = Log()
    syslog: Syslog = Syslog()
