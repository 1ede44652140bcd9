"""A DKIM verifier that shares no code with the product: Perl's Mail::DKIM, from the unpacked tree.

Debian 12's version of it knows RSA only: an Ed25519 signature is "invalid" to it.
"""

import re
import subprocess
from dataclasses import dataclass

from tests.lab import tree
from tests.lab.dns import DnsServer
from tests.lab.ports import LOOPBACK
from tests.lab.process import LabError

VERIFIER_SECONDS = 30
# One line a signature, in the order of the message: domain, selector, algorithm, result, detail.
PROGRAM = """\
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;
my ($host, $port) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 1));
my $dkim = Mail::DKIM::Verifier->new();
binmode STDIN;
{ local $/; $dkim->PRINT(scalar <STDIN>); }
$dkim->CLOSE;
for my $signature ($dkim->signatures) {
    print join("\\t", $signature->domain, $signature->selector, $signature->algorithm, $signature->result,
        $signature->result_detail), "\\n";
}
"""


@dataclass(frozen=True, slots=True)
class Verification:
    """What Mail::DKIM found of one signature: `result` is pass, fail, invalid, temperror or none."""

    domain: str
    selector: str
    algorithm: str
    result: str
    detail: str


def verify(message: bytes, nameserver: DnsServer) -> list[Verification]:
    """Verify every DKIM-Signature of a message, in its order; its lines may end with LF, as in a Maildir."""
    done = subprocess.run(
        [tree.program("usr/bin/perl"), "-e", PROGRAM, LOOPBACK, str(nameserver.port)],
        input=re.sub(rb"(?<!\r)\n", b"\r\n", message),
        capture_output=True,
        env=tree.environment(),
        timeout=VERIFIER_SECONDS,
        check=False,
    )
    if done.returncode:
        raise LabError(f"Mail::DKIM: {done.stderr.decode(errors='replace')}")
    return [Verification(*line.split("\t")) for line in done.stdout.decode(errors="replace").splitlines()]
