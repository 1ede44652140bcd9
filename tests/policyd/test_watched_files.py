"""Files that change: when they are read again, and what a wrong one leaves in force."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.watched_files import WatchedFiles, stamp_of, watch


class Content:
    """What two files hold together, as far as it was right; `wrong` in one makes all wrong."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "a", folder / "b"]
        for path in self.paths:
            path.write_text("1")
        self.in_force = "11"
        self.read: list[set[str]] = []
        self.watch(self.prepare)

    def watch(self, prepare: Callable[[frozenset[Path]], Callable[[], None]]) -> None:
        self.files = WatchedFiles({path: stamp_of(path) for path in self.paths}, prepare)

    def prepare(self, changed: frozenset[Path]) -> Callable[[], None]:
        self.read.append({path.name for path in changed})
        try:
            found = "".join(path.read_text() for path in self.paths)
        except OSError as error:
            raise ConfigError("a", "", "cannot be read") from error
        if "wrong" in found:
            raise ConfigError("a", "1", "`wrong` is wrong")

        def put_in_force() -> None:
            self.in_force = found

        return put_in_force

    def look(self, times: int = 2) -> str:
        for _ in range(times):
            self.files.look()
        return self.in_force


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """Both files read."""
    return Content(tmp_path)


def test_what_does_not_change_is_not_read(content: Content) -> None:
    """A look is a stat."""
    assert content.look(5) == "11"
    assert content.read == []


def test_a_change_is_read_when_it_has_rested_for_a_look(content: Content) -> None:
    """A file that is being written is half a file."""
    content.paths[0].write_text("22")
    assert content.look(1) == "11"
    content.paths[0].write_text("222")
    assert content.look(1) == "11"
    assert content.look(1) == "2221"
    assert content.look(3) == "2221"
    assert content.read == [{"a"}]


def test_a_file_put_in_its_place_is_seen_even_if_it_looks_alike(content: Content) -> None:
    """As `mv` does: another inode, though size and time are the same."""
    old = content.paths[0].stat()
    other = content.paths[0].with_name("new")
    other.write_text("2")
    os.utime(other, ns=(old.st_atime_ns, old.st_mtime_ns))
    other.rename(content.paths[0])

    assert content.look() == "21"


def test_a_wrong_file_leaves_the_old_content_and_is_told_once(
    content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    """With its place; when it is right again all that has changed is read."""
    content.paths[0].write_text("wrong")
    assert content.look(6) == "11"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("a:1: `wrong` is wrong\nthe content of ")
    content.paths[1].write_text("2")
    assert content.look(4) == "11"
    content.paths[0].write_text("3")
    assert content.look() == "32"
    assert content.read == [{"a"}, {"a", "b"}, {"a", "b"}]


def test_a_file_that_is_gone_leaves_the_old_content(content: Content) -> None:
    """And is read when it comes again."""
    content.paths[0].unlink()
    assert content.look(4) == "11"
    content.paths[0].write_text("4")
    assert content.look() == "41"


def test_what_changes_while_it_is_read_does_not_take_force(content: Content) -> None:
    """It is read when it has come to rest."""

    def interrupted(changed: frozenset[Path]) -> Callable[[], None]:
        put_in_force = content.prepare(changed)
        if len(content.read) == 1:
            content.paths[0].write_text("333")
        return put_in_force

    content.watch(interrupted)
    content.paths[0].write_text("22")
    assert content.look(2) == "11"
    assert content.look(2) == "3331"


def test_a_thread_looks_by_itself_and_a_bug_does_not_end_it(
    content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next change is read."""
    read, stop = threading.Event(), threading.Event()

    def buggy(changed: frozenset[Path]) -> Callable[[], None]:
        if not content.read:
            content.read.append(set())
            content.paths[0].write_text("333")
            raise ValueError
        return read.set

    content.watch(buggy)
    content.paths[0].write_text("22")
    watch([content.files], stop, seconds=0.001)
    try:
        assert read.wait(30)
    finally:
        stop.set()
    assert caplog.messages == ["files that changed could not be read: this is a bug"]


def test_without_files_nobody_looks() -> None:
    """No thread is made for nothing."""
    before = threading.active_count()
    watch([WatchedFiles({}, lambda _: lambda: None)])

    assert threading.active_count() == before
