"""What every system test gets: a work folder that the servers' users can reach; its logs on failure."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import ENGINES, Engine
from tests.lab.keys import SigningKeys, make_keys
from tests.lab.outside import OutsideDomain
from tests.lab.work import work_folder

FOLDER_OF_FAILURE: pytest.StashKey[Path] = pytest.StashKey()
SHARED_FOLDERS: pytest.StashKey[list[Path]] = pytest.StashKey()
LOG_TAIL_CHARACTERS = 4000
LOG_NAMES = ("log", ".jsonl", "master.out")


def pytest_configure(config: pytest.Config) -> None:
    """End as after Ctrl-C on SIGTERM, too, so that every server is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.stash[SHARED_FOLDERS] = []


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


@pytest.fixture(scope="module")
def shared_work(request: pytest.FixtureRequest) -> Iterator[Path]:
    """As `work`, for servers that several tests of a module share."""
    with work_folder() as folder:
        request.config.stash[SHARED_FOLDERS].append(folder)
        yield folder
        request.config.stash[SHARED_FOLDERS].remove(folder)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: what the milter does is shown on both, module by module."""
    found: Engine = request.param
    return found


@pytest.fixture(scope="session")
def our_keys() -> Iterator[SigningKeys]:
    """The keys of example.org, made by `mailreeve keys new`, with the DNS records that it printed."""
    with work_folder() as folder:
        yield make_keys("example.org", folder / "keys")


@pytest.fixture(scope="session")
def bank() -> OutsideDomain:
    """Somebody who does everything right: SPF, DKIM, DMARC with p=reject."""
    return OutsideDomain("bank.example", "192.0.2.25")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log in the work folder with a failure."""
    report = yield
    own = item.stash.get(FOLDER_OF_FAILURE, None)
    folders = [*item.config.stash[SHARED_FOLDERS], *([own] if own else [])]
    if report.failed:
        report.sections += [section for folder in folders for section in log_ends(folder)]
    return report


def log_ends(folder: Path) -> list[tuple[str, str]]:
    """The end of every log below a folder, with its name."""
    logs = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(LOG_NAMES))
    texts = [(str(log.relative_to(folder)), log.read_text(errors="replace")) for log in logs]
    return [(name, text[-LOG_TAIL_CHARACTERS:]) for name, text in texts if text]
