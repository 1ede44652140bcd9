from __future__ import annotations

import os
import pty
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.sink_stream import StreamSink
from tests.policyd.log_services import fill

LINE = b"x" * 999 + b"\n"

Ends = tuple[int, Callable[[int], bytes]]


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """The end that is written to, and how its reader reads."""
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield ours.fileno(), theirs.recv
        return
    if request.param == "terminal":
        reading, writing = pty.openpty()
    else:
        reading, writing = os.pipe()
    yield writing, lambda count: os.read(reading, count)
    os.close(reading)
    os.close(writing)


def test_a_line_is_written_at_once(ends: Ends) -> None:
    """There is no buffer between us and the reader."""
    descriptor, read = ends
    sink = StreamSink(descriptor)
    sink.write(b"line\n")

    assert read(100).replace(b"\r", b"") == b"line\n"
    sink.close()


def test_a_reader_that_hangs_holds_up_nobody(ends: Ends) -> None:
    """What finds no room is lost at once; the next line that does is whole, and on a line of its own."""
    descriptor, read = ends
    sink = StreamSink(descriptor, lambda: 0.0)
    assert fill(sink.write, LINE) > 0
    fill(sink.write, LINE)
    seen = read(1 << 20)
    while len(seen) < 4096:
        seen += read(1 << 20)
    sink.write(b"again\n")
    while not seen.endswith((b"again\n", b"again\r\n")):
        seen += read(1 << 20)

    lines = seen.replace(b"\r", b"").split(b"\n")
    assert lines[-2:] == [b"again", b""]
    assert set(lines[:-3]) == {LINE[:-1]}
    assert os.get_blocking(descriptor), "the descriptor is shared with other processes"
    sink.close()


def test_of_several_lines_it_is_told_which_went(ends: Ends) -> None:
    """Those that a reader who hangs left room for, and no other."""
    descriptor, read = ends
    sink = StreamSink(descriptor, lambda: 0.0)
    went, error = 0, None
    while error is None:
        written = sink.write_each([LINE] * 10)
        went, error = went + written.count, written.error

    seen = b""
    while seen.count(b"\n") < went:
        seen += read(1 << 20)
    assert seen.count(b"\n") == went
    sink.close()


def test_a_reader_that_went_away_is_an_error() -> None:
    """No signal ends the process."""
    reading, writing = os.pipe()
    os.close(reading)
    sink = StreamSink(writing)
    with pytest.raises(BrokenPipeError):
        sink.write(LINE)
    sink.close()
    os.close(writing)


def test_a_file_is_appended_where_the_shell_opened_it(tmp_path: Path) -> None:
    """`mailreeve policyd >> file`: the descriptor's own place in the file counts."""
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        sink = StreamSink(file.fileno())
        sink.write(b"1\n")
        sink.reopen()
        sink.write(b"2\n")

    assert path.read_bytes() == b"before\n1\n2\n"


def test_a_full_disk_is_an_error() -> None:
    """`>/dev/full`: and the next line is tried anew."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = StreamSink(full.fileno())
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                sink.write(LINE)
