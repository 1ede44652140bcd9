from __future__ import annotations

import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailreeve_policyd.sink_syslog import (
    MAX_DATAGRAM,
    Severity,
    Syslog,
    SyslogAddress,
    SyslogSink,
    parse_syslog_address,
)
from tests.policyd.log_services import fill, udp_service, unix_service

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC).timestamp()


def syslog_at(address: SyslogAddress, now: float = NOON, stopwatch: float = 0.0) -> Syslog:
    return Syslog(address, "mail", "mailreeve-policyd", clock=lambda: now, stopwatch=lambda: stopwatch)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/dev/log", SyslogAddress(path="/dev/log")),
        ("udp:192.0.2.9:1514", SyslogAddress(host="192.0.2.9", port=1514)),
        ("udp:192.0.2.9", SyslogAddress(host="192.0.2.9", port=514)),
        ("udp:[2001:db8::9]:1514", SyslogAddress(host="2001:db8::9", port=1514)),
        ("udp:[2001:db8::9]", SyslogAddress(host="2001:db8::9", port=514)),
    ],
)
def test_an_address_is_a_socket_or_an_ip_address(text: str, address: SyslogAddress) -> None:
    """As the reference of [syslog] says."""
    assert parse_syslog_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/dev/log",
        "unix:dev/log",
        "unix:/dev/\0log",
        "tcp:192.0.2.9:514",
        "udp:log.example.org:514",
        "udp:192.0.2.9:0",
        "udp:192.0.2.9:65536",
        "udp:192.0.2.9:x",
        "udp:[2001:db8::9]:x",
        "udp:",
    ],
)
def test_what_is_no_address_is_said(text: str) -> None:
    """A name is none either: the log must not need DNS."""
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_syslog_address(text)


def test_the_local_service_gets_the_form_that_it_reads(tmp_path: Path) -> None:
    """`<PRI>Mmm dd hh:mm:ss program[pid]: text`, in local time: facility mail is 2, info 6, so 22."""
    with unix_service(tmp_path / "log") as service:
        syslog = syslog_at(SyslogAddress(path=str(tmp_path / "log")))
        syslog.send(Severity.INFO, "record", b'{"a":1}')
        datagram = service.next()
        syslog.close()

    local = time.localtime(NOON)
    moment = f"Mar {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    assert re.fullmatch(rf'<22>{moment} mailreeve-policyd\[\d+\]: {{"a":1}}', datagram.decode())


def test_a_remote_service_gets_rfc_5424() -> None:
    """VERSION 1, UTC with milliseconds, host, program, process id, MSGID, no structured data."""
    with udp_service() as service:
        syslog = syslog_at(SyslogAddress(host="127.0.0.1", port=service.socket.getsockname()[1]))
        syslog.send(Severity.ERROR, "log", b"text")
        datagram = service.next().decode()
        syslog.close()

    assert re.fullmatch(r"<19>1 2026-03-01T12:00:00\.123Z \S+ mailreeve-policyd \d+ log - text", datagram), (
        datagram
    )


def test_a_line_of_the_record_is_one_message_of_severity_info(tmp_path: Path) -> None:
    """Without its line end, which syslog would show."""
    with unix_service(tmp_path / "log") as service:
        sink = SyslogSink(syslog_at(SyslogAddress(path=str(tmp_path / "log"))))
        sink.write(b"line\n")
        assert service.next().endswith(b"]: line")
        sink.close()


def test_a_service_that_is_away_is_an_error_and_found_again_when_it_returns(tmp_path: Path) -> None:
    """A restart makes a new socket under the old name: the first message after it arrives."""
    path = tmp_path / "log"
    syslog = syslog_at(SyslogAddress(path=str(path)))
    with pytest.raises(FileNotFoundError):
        syslog.send(Severity.INFO, "log", b"1")
    for number in (b"2", b"3"):
        with unix_service(path) as service:
            syslog.send(Severity.INFO, "log", number)
            assert service.next().endswith(number)
    with pytest.raises(OSError, match="No such file"):
        syslog.send(Severity.INFO, "log", b"4")
    syslog.close()


def test_a_port_that_was_closed_is_written_to_again() -> None:
    """That nobody listened to a datagram is told to the next one, which does not fail of it."""
    with udp_service() as service:
        port = service.socket.getsockname()[1]
    syslog = syslog_at(SyslogAddress(host="127.0.0.1", port=port))
    syslog.send(Severity.INFO, "log", b"to nobody")
    with udp_service(port=port) as service:
        syslog.send(Severity.INFO, "log", b"again")
        assert service.next().endswith(b"again")
    syslog.close()


def test_a_service_that_does_not_read_is_waited_for_once_a_second_at_most(tmp_path: Path) -> None:
    """Its queue is full: messages are lost at once, mail goes on; one that is read makes room again."""
    with unix_service(tmp_path / "log") as service:
        syslog = syslog_at(SyslogAddress(path=str(tmp_path / "log")))
        sent = fill(lambda text: syslog.send(Severity.INFO, "log", text), b"x" * 1000)
        with pytest.raises(BlockingIOError):
            syslog.send(Severity.INFO, "log", b"lost")
        assert len(service.drain()) == sent
        syslog.send(Severity.INFO, "log", b"again")
        assert service.next().endswith(b"again")
        syslog.close()


def test_a_message_is_bounded(tmp_path: Path) -> None:
    """What is too long for a log service is cut, not refused."""
    with unix_service(tmp_path / "log") as service:
        syslog = syslog_at(SyslogAddress(path=str(tmp_path / "log")))
        syslog.send(Severity.INFO, "log", b"x" * 100_000)
        assert len(service.next()) == MAX_DATAGRAM
        syslog.close()


def test_the_name_of_this_host_is_one_word() -> None:
    """RFC 5424 section 6.2.4 allows no space; a host without a usable name is `-`."""
    with udp_service() as service:
        syslog = syslog_at(SyslogAddress(host="127.0.0.1", port=service.socket.getsockname()[1]))
        syslog.send(Severity.INFO, "log", b"x")
        host = service.next().decode().split(" ")[2]
        syslog.close()

    assert host in (socket.gethostname(), "-")
