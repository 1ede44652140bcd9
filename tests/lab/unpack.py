"""Fetch Debian's servers with all they need, and unpack them under `.build/root` and `.build/sendmail`.

Run as `python3 -m tests.lab.unpack` before anything else exists, so it needs the standard library only. apt
works on a state of its own in which nothing is installed: the closure is the same on every machine, whichever
mail server or library that machine has, and nothing on it is changed, started or even read but apt's sources.
The C library is the exception: programs must use the machine's own, which their loader belongs to.
"""

import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tests.lab import tree

SERVERS = (
    "postfix",
    "redis-server",
    "sasl2-bin",
    "libsasl2-modules",
    "libsasl2-modules-db",
    "libmail-dkim-perl",  # a DKIM verifier that shares no code with ours
    "opendkim",  # another one, and what its tables of keys mean
    "libfaketime",  # a clock that can be stepped, for processes that are told to use it
)
SENDMAIL = ("sendmail-bin", "sendmail-cf")
# their programs or libraries come from the machine, or are of use only to maintainer scripts
NOT_UNPACKED = frozenset(
    (
        "adduser",
        "debconf",
        "dpkg",
        "e2fsprogs",
        "init-system-helpers",
        "libc6",
        "passwd",
        "sysvinit-utils",
        "tar",
    )
)
FETCH_TIMEOUT_SECONDS = 900
SET_ID = stat.S_ISUID | stat.S_ISGID


class FetchError(Exception):
    """apt or dpkg failed; the text is what it said."""


def main() -> int:
    """Fetch and unpack unless that was done; the exit code for the shell."""
    try:
        provide(SERVERS, tree.ROOT, "about 45 MB: Postfix, Redis, Cyrus SASL and what they need")
        provide(SENDMAIL, tree.SENDMAIL_ROOT, "about 4 MB: Sendmail and what it needs", beside=SERVERS)
    except (FetchError, OSError, subprocess.SubprocessError) as error:
        say(f"the servers for the tests could not be fetched: {error}")
        return 1
    return 0


def provide(packages: Sequence[str], root: Path, what: str, beside: Sequence[str] = ()) -> None:
    """Fetch packages and unpack them below `root`, unless that was done.

    Left out is what `beside`, packages of another root, need as well: it is looked for there.
    """
    wanted, stamp = "\n".join(packages) + "\n", root / tree.STAMP_NAME
    if not stamp.exists() or stamp.read_text() != wanted:
        begun = time.monotonic()
        archives = fetch(tree.BUILD / "apt", packages, what)
        elsewhere = set(closure(tree.BUILD / "apt", beside)) if beside else set()
        archives = [archive for archive in archives if archive.name not in elsewhere]
        unpack(archives, root, NOT_UNPACKED)
        say(f"{len(archives)} packages in {root.name}/, {time.monotonic() - begun:.0f} seconds")
    stamp.write_text(wanted)  # anew: what is older than this file is made again


def fetch(state: Path, packages: Sequence[str], what: str) -> list[Path]:
    """Download packages and all they depend on; their archives, which are kept for the next time.

    Asks the network only if a package of the closure is not there yet. `what` says what that is.
    """
    archives = state / "archives"
    for folder in (archives / "partial", state / "lists/partial", state / "no-archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").write_text("")
    names = closure(state, packages)
    if not names or any(not (archives / name).exists() for name in names):
        say("reading Debian's package lists")
        apt(state, "update")
        names = closure(state, packages)
        missing = sum(not (archives / name).exists() for name in names)
        say(f"fetching {missing} packages ({what})")
        apt(state, "install", "--download-only", *packages)
    return [archives / name for name in names]


def closure(state: Path, packages: Sequence[str]) -> list[str]:
    """The archive file names of packages and all they depend on; empty without package lists."""
    try:  # a package that is in the archives already would not be listed: so ask for an empty folder
        told = apt(
            state, "install", "-o", f"Dir::Cache::archives={state / 'no-archives'}", "--print-uris", *packages
        )
    except FetchError:
        return []
    return re.findall(r"^'\S+' (\S+\.deb) ", told, re.MULTILINE)


def apt(state: Path, verb: str, *words: str) -> str:
    """Run apt-get on a state of our own, in which no package is installed; what it printed."""
    options = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Cache::archives": state / "archives",
        "APT::Sandbox::User": "root",  # the folder need not be readable by apt's own user
        "APT::Install-Recommends": "false",
        "Acquire::Retries": "3",
    }
    settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return run(["apt-get", "-qq", "-y", *settings, verb, *words])


def unpack(archives: Iterable[Path], root: Path, left_out: Collection[str]) -> None:
    """Replace `root` by the archives' files but for packages left out; runs none of their scripts."""
    say("unpacking them")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for archive in archives:
        if archive.name.partition("_")[0] not in left_out:
            run(["dpkg-deb", "--extract", str(archive), str(root)])
    for path in root.rglob("*"):  # with another group's rights a program would not look for our libraries
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & SET_ID:
            path.chmod(path.stat().st_mode & 0o777)


def run(command: list[str]) -> str:
    """The output of a command; FetchError with the end of what it said if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FETCH_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise FetchError(f"{command[0]}: {done.stderr.strip()[-1000:] or done.returncode}")
    return done.stdout


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
