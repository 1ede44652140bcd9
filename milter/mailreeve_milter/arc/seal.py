"""Adds an ARC set of ours to a message (RFC 8617 section 5.1). Decides nothing about the message."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime

from mailreeve_milter.arc.chain import MAX_SETS, ChainStatus, Kind, SealScope
from mailreeve_milter.arc.verify import ChainOutcome
from mailreeve_milter.dkim.body_hash import BodyForm
from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.crypto import sign_digest
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.sign import FROM, MAX_FIELDS_A_NAME, SIGNED_NAMES, SigningKey, cut, fold
from mailreeve_milter.message import HeaderField

SEALED_BODY = BodyForm(Canonicalization.RELAXED)
"""The form of the body whose digest a set needs."""

_SEALED_NAMES = (*SIGNED_NAMES, b"dkim-signature")
"""With the signatures that came with the message (section 4.1.2); no Authentication-Results, no ARC field."""

_BASE64_COLUMNS = 70


def seal_message(
    fields: Sequence[HeaderField],
    outcome: ChainOutcome,
    results: HeaderField,
    body_digest: bytes,
    key: SigningKey,
    now: datetime,
) -> tuple[HeaderField, ...]:
    """A set for the top of the header: ARC-Seal, ARC-Message-Signature, ARC-Authentication-Results.

    `fields` is the header top down, `outcome` what was found of its chain, `results` our
    Authentication-Results, `body_digest` that of SEALED_BODY. None is made where none may be (section
    5.1): after a seal that says cv=fail, beyond 50 sets, or without exactly one From field, which cannot be
    signed. Nor where DNS did not say whether the chain is valid: cv=fail would break it for good.
    """
    instance, status = outcome.chain.highest + 1, outcome.result.result
    header = SignedHeader(fields)
    if outcome.chain.is_ended or instance > MAX_SETS or status == "temperror" or header.count(FROM) != 1:
        return ()
    sealer = _Sealer(instance, key, int(now.timestamp()))
    ours = sealer.results(results)
    message_signature = sealer.message_signature(header, body_digest)
    scope = SealScope()
    for arc_set in (
        outcome.chain.sets if status == ChainStatus.PASS.value else ()
    ):  # 5.1.2: else our own alone
        scope.add(arc_set.results, arc_set.message_signature, arc_set.seal_field)
    scope.add(ours, message_signature)
    return sealer.seal(scope, ChainStatus(status)), message_signature, ours


class _Sealer:
    """Makes the fields of one set."""

    def __init__(self, instance: int, key: SigningKey, signed_at: int) -> None:
        self._key = key
        self._instance = f" i={instance};".encode("ascii")
        self._tags = [
            f" a={key.algorithm.value};".encode("ascii"),
            f" d={key.domain};".encode("ascii"),
            f" s={key.selector};".encode("ascii"),
            f" t={signed_at};".encode("ascii"),
        ]

    def results(self, ours: HeaderField) -> HeaderField:
        """Section 4.1.1: what our Authentication-Results says, behind the instance."""
        return HeaderField(Kind.RESULTS.field_name, self._instance + ours.value)

    def message_signature(self, header: SignedHeader, body_digest: bytes) -> HeaderField:
        """Section 4.1.2."""
        names = _names_to_seal(header)
        pieces = [
            self._instance,
            *self._tags,
            b" c=relaxed/relaxed;",
            b" h=" + names[0] + b":",
            *[name + b":" for name in names[1:-1]],
            names[-1] + b";",
            b" bh=" + base64.b64encode(body_digest) + b";",
            b" b=",
        ]
        value, column = fold(pieces, len(Kind.MESSAGE_SIGNATURE.field_name) + 1)
        unsigned = HeaderField(Kind.MESSAGE_SIGNATURE.field_name, value)
        return self._signed(unsigned, column, header.digest(names, Canonicalization.RELAXED, unsigned))

    def seal(self, scope: SealScope, status: ChainStatus) -> HeaderField:
        """Section 4.1.3."""
        pieces = [self._instance, f" cv={status.value};".encode("ascii"), *self._tags, b" b="]
        value, column = fold(pieces, len(Kind.SEAL.field_name) + 1)
        unsigned = HeaderField(Kind.SEAL.field_name, value)
        return self._signed(unsigned, column, scope.digest(unsigned))

    def _signed(self, unsigned: HeaderField, column: int, digest: bytes) -> HeaderField:
        signature = base64.b64encode(sign_digest(self._key.private_key, digest))
        folded, _ = fold(cut(signature, _BASE64_COLUMNS), column)
        return HeaderField(unsigned.name, unsigned.value + folded)


def _names_to_seal(header: SignedHeader) -> list[bytes]:
    """h=: each name once a field; From once more, so that none can be added."""
    names = [FROM]
    for name in _SEALED_NAMES:
        names.extend([name] * min(header.count(name), MAX_FIELDS_A_NAME))
    return names
