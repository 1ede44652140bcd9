"""DKIM (RFC 6376, 8301, 8463, 8616): verify signatures, make signatures. The body streams through, unheld.

The only room that imports dkimpy (the foreign package `dkim`) and cryptography. Knows header fields,
octets, keys and the Resolver port; knows no policy, no DMARC and no milter.

dkimpy reads c= here, and is the oracle of the tests. The rest is decided in this room, because dkimpy
holds whole messages, takes an algorithm from whoever sends it, strips more than white space from header
fields, removes more than b= from a signature, and does its arithmetic in Python.
"""

from mailreeve_milter.dkim.outcome import SignatureOutcome
from mailreeve_milter.dkim.resign import SigningOnce, start_signing_once
from mailreeve_milter.dkim.sign import Signing, SigningKey, SigningOptions, start_signing
from mailreeve_milter.dkim.verify import Verification, start_verification

__all__ = [
    "SignatureOutcome",
    "Signing",
    "SigningKey",
    "SigningOnce",
    "SigningOptions",
    "Verification",
    "start_signing",
    "start_signing_once",
    "start_verification",
]
