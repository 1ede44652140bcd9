"""What every system test gets: a work folder that the servers' users can reach; its logs on failure."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab.work import work_folder

FOLDER_OF_FAILURE: pytest.StashKey[Path] = pytest.StashKey()
LOG_TAIL_CHARACTERS = 4000


def pytest_configure(config: pytest.Config) -> None:
    """End as after Ctrl-C on SIGTERM, too, so that every server is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test of this folder as a system test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture
def work(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh folder with a short name, for everything that a test's servers write; removed afterwards."""
    with work_folder() as folder:
        request.node.stash[FOLDER_OF_FAILURE] = folder
        yield folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log in the work folder with a failure."""
    report = yield
    folder = item.stash.get(FOLDER_OF_FAILURE, None)
    if report.failed and folder is not None and folder.exists():
        for log in sorted([*folder.rglob("*log"), *folder.rglob("*.log")]):
            if log.is_file() and (text := log.read_text(errors="replace")):
                report.sections.append((str(log.relative_to(folder)), text[-LOG_TAIL_CHARACTERS:]))
    return report
