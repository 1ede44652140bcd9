"""ARC by Perl's Mail::DKIM, from the unpacked tree: it shares no code with the product."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab import tree
from tests.lab.dns import DnsServer
from tests.lab.ports import LOOPBACK
from tests.lab.process import LabError

SECONDS = 30
VERIFIER = """\
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::ARC::Verifier;
use Net::DNS::Resolver;
my ($host, $port) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 1));
my $arc = Mail::DKIM::ARC::Verifier->new();
binmode STDIN;
{ local $/; $arc->PRINT(scalar <STDIN>); }
$arc->CLOSE;
print $arc->result, "\\t", $arc->result_detail, "\\n";
"""
SEALER = """\
use strict;
use warnings;
use Mail::DKIM::ARC::Signer;
my ($key, $domain, $selector, $id, $chain) = @ARGV;
my $arc = Mail::DKIM::ARC::Signer->new(Algorithm => 'rsa-sha256', Chain => $chain, Domain => $domain,
    SrvId => $id, Selector => $selector, KeyFile => $key, Headers => 'x-nothing');
binmode STDIN;
binmode STDOUT;
{ local $/; $arc->PRINT(scalar <STDIN>); }
$arc->CLOSE;
die $arc->{details} unless $arc->result eq 'sealed';
print join("\\015\\012", $arc->as_strings), "\\015\\012";
"""


def verify_chain(message: bytes, nameserver: DnsServer) -> str:
    """The result (pass, fail, none, temperror ...) and its detail for a message's chain."""
    return _run(VERIFIER, [LOOPBACK, str(nameserver.port)], message).strip().replace("\t", ": ")


def seal(message: bytes, key: Path, domain: str, selector: str, authserv_id: str, chain: str) -> bytes:
    """The message with a set of `domain` on top; `chain` is its cv, or "ar" to take it from the results."""
    sealed = _run(SEALER, [str(key), domain, selector, authserv_id, chain], message)
    return sealed.encode("latin-1") + message


def _run(program: str, arguments: Sequence[str], message: bytes) -> str:
    done = subprocess.run(
        [tree.program("usr/bin/perl"), "-e", program, *arguments],
        input=re.sub(rb"(?<!\r)\n", b"\r\n", message),
        capture_output=True,
        env=tree.environment(),
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise LabError(f"Mail::DKIM::ARC: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode("latin-1")
