"""An authoritative DNS server on loopback, made from zone text, with faults on request.

It is the whole DNS: a name that the text does not know does not exist (NXDOMAIN).
"""

import socketserver
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile

from tests.lab.ports import LOOPBACK, free_port

TTL_SECONDS = 60
NEGATIVE_TTL_SECONDS = 5
UDP_BYTES = 512  # RFC 1035 section 4.2.1, for a client without EDNS
CNAME_STEPS = 8
OTHER_NAME = dns.name.from_text("other.example.")


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server does instead of answering: wait, then answer as usual, with a code, or never.

    `lies` has its answer bear another id, or another question, than was asked. `truncated` has whoever asks
    by UDP come again by TCP. `flaps` has the fault befall only every second question.
    """

    delay_seconds: float = 0.0
    rcode: dns.rcode.Rcode | None = None
    silent: bool = False
    lies: Literal["id", "question"] | None = None
    truncated: bool = False
    flaps: bool = False


SILENT = Fault(silent=True)
SERVFAIL = Fault(rcode=dns.rcode.SERVFAIL)
REFUSED = Fault(rcode=dns.rcode.REFUSED)
SOUND = Fault()


@dataclass(frozen=True, slots=True)
class Query:
    """A question that was asked: the name in lower case without its final dot, the type such as "TXT"."""

    name: str
    rdtype: str
    tcp: bool


class DnsServer:
    """The server; as a context manager it serves from entry to exit.

    `zone` holds master file lines with full names, a TTL being optional:

        example.org. MX 10 mail.example.org.
        example.org. 300 TXT "v=spf1 ip4:192.0.2.10 -all"

    `port` serves UDP and TCP. `queries` lists what was asked, in order.
    """

    def __init__(self, zone: str = "") -> None:
        self.port = free_port()
        self.queries: list[Query] = []
        self._records: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        self._faults: dict[dns.name.Name, Fault] = {}
        self._stopping = threading.Event()
        self._servers: list[_Udp | _Tcp] = []
        self.add(zone)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """HOST:PORT, as `[dns] servers` takes it."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Serve, in threads of its own."""
        self._stopping.clear()
        self._servers = [_Udp((LOOPBACK, self.port), _UdpQuestion), _Tcp((LOOPBACK, self.port), _TcpQuestion)]
        for server in self._servers:
            server.dns = self
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Serve no more; the port is free afterwards."""
        self._stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []

    def add(self, zone: str) -> None:
        """Add records; those of a name and type that are there already are replaced."""
        lines = "\n".join(line.strip() for line in zone.splitlines())  # an indented line would have no name
        for rrset in dns.zonefile.read_rrsets(lines, rdclass=None, default_ttl=TTL_SECONDS):
            self._records[rrset.name.canonicalize(), rrset.rdtype] = rrset

    def remove(self, name: str) -> None:
        """Forget all records of a name."""
        gone = _parse_name(name)
        for key in [key for key in self._records if key[0] == gone]:
            del self._records[key]

    def fail(self, name: str, fault: Fault) -> None:
        """Answer questions for this name with the fault, until `heal`."""
        self._faults[_parse_name(name)] = fault

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def count(self, name: str | None = None, rdtype: str | None = None) -> int:
        """How many questions were asked, for this name and this type only if given."""
        wanted = name.lower().rstrip(".") if name is not None else None
        return sum(
            (wanted is None or query.name == wanted) and (rdtype is None or query.rdtype == rdtype)
            for query in self.queries
        )

    def reply(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one message; None if there is to be none."""
        try:
            request = dns.message.from_wire(wire)
            question = request.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name = question.name.canonicalize()
        self.queries.append(
            Query(name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype), tcp)
        )
        fault = self._faults.get(name, SOUND)
        if fault.flaps and len(self.queries) % 2:
            fault = SOUND
        if fault.delay_seconds:
            self._stopping.wait(fault.delay_seconds)
        if fault.silent or self._stopping.is_set():
            return None
        return self._answer(request, fault, tcp=tcp)

    def _answer(self, request: dns.message.Message, fault: Fault, *, tcp: bool) -> bytes:
        response = dns.message.make_response(request, recursion_available=True)
        response.flags |= dns.flags.AA
        if fault.rcode is not None:
            response.set_rcode(fault.rcode)
        else:
            self._fill(response)
        if fault.lies == "id":
            response.id ^= 1
        elif fault.lies == "question":
            response.question = [dns.rrset.RRset(OTHER_NAME, dns.rdataclass.IN, request.question[0].rdtype)]
        limit = 65535 if tcp else max(UDP_BYTES, request.payload)
        try:
            if fault.truncated and not tcp:
                return _truncated(request)
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            return _truncated(request)

    def _fill(self, response: dns.message.Message) -> None:
        """Follow CNAMEs to the records; without any say NXDOMAIN or NODATA, with the SOA (RFC 2308)."""
        name, rdtype = response.question[0].name.canonicalize(), response.question[0].rdtype
        for _ in range(CNAME_STEPS):
            if (name, rdtype) in self._records:
                response.answer.append(self._records[name, rdtype])
                return
            alias = self._records.get((name, dns.rdatatype.CNAME))
            if alias is None:
                break
            response.answer.append(alias)
            name = alias[0].target.canonicalize()
        if not any(known.is_subdomain(name) for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(_soa())


def _truncated(request: dns.message.Message) -> bytes:
    short = dns.message.make_response(request, recursion_available=True)
    short.flags |= dns.flags.TC
    return short.to_wire()


def _soa() -> dns.rrset.RRset:
    text = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {NEGATIVE_TTL_SECONDS}"
    return dns.rrset.from_text(".", NEGATIVE_TTL_SECONDS, dns.rdataclass.IN, dns.rdatatype.SOA, text)


def _parse_name(text: str) -> dns.name.Name:
    return dns.name.from_text(text).canonicalize()


class _Udp(socketserver.ThreadingUDPServer):
    dns: DnsServer
    daemon_threads = True
    allow_reuse_address = True
    max_packet_size = 65535


class _Tcp(socketserver.ThreadingTCPServer):
    dns: DnsServer
    daemon_threads = True
    allow_reuse_address = True


class _UdpQuestion(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, socket = self.request
        answer = cast("_Udp", self.server).dns.reply(wire, tcp=False)
        if answer is not None:
            socket.sendto(answer, self.client_address)


class _TcpQuestion(socketserver.StreamRequestHandler):
    """Any number of messages on one connection, each after its length (RFC 1035 section 4.2.2)."""

    timeout = 10

    def handle(self) -> None:
        while len(size := self.rfile.read(2)) == 2:
            wire = self.rfile.read(struct.unpack("!H", size)[0])
            answer = cast("_Tcp", self.server).dns.reply(wire, tcp=True)
            if answer is None:
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)
