"""ARC (RFC 8617): verify the chain of sets on a message, add one of ours.

Knows header fields, digests and keys through the room dkim/, and the Resolver port. Must not know whom we
trust: a valid chain proves who sealed, not that a sealer is honest (section 9.4). ARC is an experiment that
is being retired (draft-ietf-dmarc-arc-to-historic): nothing here runs unless the operator asks for it.
"""

from mailreeve_milter.arc.seal import SEALED_BODY, seal_message
from mailreeve_milter.arc.verify import ChainOutcome, ChainVerification, start_chain_verification

__all__ = [
    "SEALED_BODY",
    "ChainOutcome",
    "ChainVerification",
    "seal_message",
    "start_chain_verification",
]
