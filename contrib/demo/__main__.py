"""Start the site, play the five scenes, end everything. Exit status 0 if all went as told, 1 if not.

Runs by `make demo`; `make demo ARGS=--keep` leaves the work folder behind, `ARGS=--engine=libmilter` plays it
on the other engine.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from contrib.demo.report import Report
from contrib.demo.scenes import BANK, SCENES
from mailreeve_policyd.settings import Milter
from tests.lab import tree
from tests.lab.daemons import ENGINES, Engine
from tests.lab.keys import make_keys
from tests.lab.process import LabError
from tests.lab.site import SHIPPED_RULES, Site, StoreName
from tests.lab.smtp import SmtpError
from tests.lab.work import make_work_folder

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended
LOG_TAIL_CHARACTERS = 1500
DEFAULT_ENGINE: Engine = Milter().engine


def main() -> int:
    """Play the demo in a folder of its own, which goes afterwards unless it is wanted or something failed."""
    parser = argparse.ArgumentParser(prog="make demo", description="Real mail through Postfix and Mailreeve.")
    parser.add_argument("--keep", action="store_true", help="leave configuration, logs and mailboxes behind")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="what speaks to Postfix in the milter; default: %(default)s",
        default=DEFAULT_ENGINE,
    )
    options = parser.parse_args()
    keep: bool = options.keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end what was started on SIGTERM, too
    report = Report()
    if os.geteuid() != 0:
        report.tell("The demo needs root: Postfix starts only as root. Nothing of this machine is changed.")
        return 1
    folder = make_work_folder()
    try:
        return play_in(folder, report, options.engine)
    except KeyboardInterrupt:
        report.tell("Interrupted; everything that was started has ended.")
        return INTERRUPTED
    finally:
        if keep or report.failures:
            report.tell(f"Configuration, logs, mailboxes and the record are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def play_in(folder: Path, report: Report, engine: Engine) -> int:
    """Build the site in a folder, play all scenes, stop the site; the exit status."""
    begun = time.monotonic()
    try:
        with build(folder, report, engine) as site:
            for number, (title, play) in enumerate(SCENES, start=1):
                report.heading(f"{number}. {title}")
                play(site, report)
        end(report, time.monotonic() - begun)
    except (LabError, tree.LabMissingError, SmtpError, OSError) as error:
        report.check(False, str(error))
        tell_logs(folder, report)
    return 1 if report.failures else 0


def build(folder: Path, report: Report, engine: Engine) -> Site:
    """The site, not yet started, and what it consists of."""
    report.heading("Mailreeve: first light")
    report.tell(
        "A whole mail site, on loopback ports and in a folder of its own. Its Postfix is real, "
        "and so is the mail; the bank and the crook are played by SMTP clients."
    )
    store: StoreName = "redis" if (tree.ROOT / "usr/bin/redis-server").exists() else "sqlite"
    keys = make_keys("example.org", folder / "keys")
    site = Site(folder, rules=SHIPPED_RULES, keys=keys, store=store, engine=engine, zone=BANK.zone)
    where = {
        "folder": str(folder),
        "DNS": f"{site.dns.address}, zones of example.org (ours) and bank.example",
        "keys": f"mailreeve keys new example.org: {len(keys.entries)} keys, records pasted into DNS",
        "policyd": "mailreeve policyd, at mailreeve/policy.sock there",
        "milter": f"mailreeve milter, at mailreeve/milter.sock there, engine {engine}",
        "limits": f"in Redis, port {site.redis.port}"
        if site.redis
        else "in the embedded store: no Redis here",
        "Postfix": f"port {site.postfix.port} is its 25, {site.postfix.submission_port} its 587 (with login)",
        "rules": str(SHIPPED_RULES.relative_to(tree.REPOSITORY) / "rules") + ", as shipped",
    }
    for label, text in where.items():
        report.row(label, text)
    return site


def end(report: Report, seconds: float) -> None:
    """How it went, and where to go from here."""
    report.heading("The end")
    if report.failures:
        report.tell(f"{len(report.failures)} things did not go as told:")
        for text in report.failures:
            report.tell(f"  - {text}")
        return
    report.tell(f"All went as told, in {seconds:.0f} seconds. Everything that was started has ended.")
    report.row("rules", f"{SHIPPED_RULES.relative_to(tree.REPOSITORY) / 'rules'} decided here; read it aloud")
    report.row("docs", "docs/README.md, ordered by the problem that you have")
    report.row("look", "make demo ARGS=--keep keeps all configuration, logs and mailboxes")
    report.row("tests", "make test does all of this with asserts, and much more")


def tell_logs(folder: Path, report: Report) -> None:
    """The end of each log."""
    for log in sorted([*folder.glob("*.log"), folder / "postfix/maillog"]):
        if log.exists() and (text := log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]):
            report.row(log.name, text)


if __name__ == "__main__":
    sys.exit(main())
