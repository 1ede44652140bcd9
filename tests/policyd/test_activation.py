"""Which daemon gets which of the sockets that systemd passes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailreeve_policyd.activation import address_of, assign
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.listen import Address, InetAddress, UnixAddress
from mailreeve_policyd.systemd import UNNAMED, PassedSocket


class Opened:
    """A service manager that opens sockets in a folder."""

    def __init__(self, folder: Path, open_ones: ExitStack) -> None:
        self.folder = folder
        self._open = open_ones

    def socket(self, file: str, name: str) -> PassedSocket:
        opened = self._open.enter_context(socket.socket(socket.AF_UNIX))
        opened.bind(str(self.folder / file))
        opened.listen()
        return PassedSocket(name, opened)

    def address(self, file: str) -> Address:
        return UnixAddress(self.folder / file)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(tmp_path, stack)


@pytest.mark.parametrize("name", ["policyd", "mailreeve-policyd.socket"])
def test_a_name_says_whose_it_is(systemd: Opened, name: str) -> None:
    """FileDescriptorName=, or without it the unit's own name; the address then is the unit's to choose."""
    passed = systemd.socket("elsewhere", name)
    listen = {"policyd": (systemd.address("p"),), "milter": (systemd.address("elsewhere"),)}

    assert list(assign([passed], listen)) == ["policyd"]


@pytest.mark.parametrize("name", [UNNAMED, "mailreeve.socket"])
def test_else_the_address_says_it(systemd: Opened, name: str) -> None:
    """One .socket unit for both has one name and two paths."""
    passed = [systemd.socket("m", name), systemd.socket("p", name)]
    listen = {"policyd": (systemd.address("p"),), "milter": (systemd.address("m"),)}
    assigned = assign(passed, listen)

    assert {daemon: [one.address for one in listeners] for daemon, listeners in assigned.items()} == {
        "milter": [systemd.address("m")],
        "policyd": [systemd.address("p")],
    }


def test_closing_one_leaves_its_file(systemd: Opened) -> None:
    """It is systemd's, which listens on."""
    assigned = assign([systemd.socket("p", "policyd")], {"policyd": (systemd.address("p"),)})
    assigned["policyd"][0].close()

    assert (systemd.folder / "p").exists()


def test_another_address_than_the_configuration_says_is_told(
    systemd: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """What systemd passed is served; who reads the configuration would look elsewhere."""
    assign([systemd.socket("p", "policyd")], {"policyd": (systemd.address("p"),)})
    assert not caplog.records

    assign([systemd.socket("q", "policyd")], {"policyd": (systemd.address("p"),)})
    [record] = caplog.records
    assert str(systemd.address("q")) in record.getMessage()
    assert str(systemd.address("p")) in record.getMessage()


def test_a_socket_of_nobody_is_a_mistake(systemd: Opened) -> None:
    """As is one of the daemon that does not run here: its clients would wait for ever."""
    for file, name in (("a", "http"), ("b", "milter")):
        with pytest.raises(ConfigError, match="which is not for policyd"):
            assign([systemd.socket(file, name)], {"policyd": (systemd.address("p"),)})


def test_the_milter_has_one_socket(systemd: Opened) -> None:
    """A second one would be opened and never served."""
    passed = [systemd.socket("a", "milter"), systemd.socket("b", "milter")]

    with pytest.raises(ConfigError, match="2 sockets for the milter"):
        assign(passed, {"milter": (systemd.address("a"),)})


def test_addresses_are_shown_as_they_are_written() -> None:
    """TCP, and Linux' abstract names, which no configuration of ours can have."""
    with socket.create_server(("127.0.0.1", 0)) as inet:
        assert address_of(inet) == InetAddress("127.0.0.1", inet.getsockname()[1])
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("")
        assert str(address_of(abstract)).startswith("unix:@")
