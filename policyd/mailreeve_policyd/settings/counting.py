"""[limits], [live] and [geoip]: what rules count in, and what they ask beside the mail itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mailreeve_policyd.settings.section import Section


class Limits(Section, frozen=True):
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


class Live(Section, frozen=True):
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


class GeoIp(Section, frozen=True):
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
