"""Secrets of the configuration, and everything that the daemons and the command write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.lab.daemons import Daemon
from tests.lab.policy import PolicyClient
from tests.lab.ports import free_port
from tests.lab.process import wait_until
from tests.lab.site import Site

SECRETS = {
    name: f"geheim-{name}-4711" for name in ("store", "sentinel", "live", "webhook", "signature", "unused")
}
RULES = """\
set staff = redis "staff"
at rcpt {
    burst:  limit 1 recipients/hour per sasl_username  warn at 50%
    strange: reject "5.7.1 no"                          if sasl_username in staff
}
"""


def settings() -> dict[str, object]:
    """A secret wherever one can stand; nobody answers at any of the addresses."""
    nobody = f"127.0.0.1:{free_port()}"
    return {
        "limits": {
            "store": "redis",
            "redis_url": f"redis://mailreeve:{SECRETS['store']}@mymaster/0",
            "redis_sentinels": [f"redis://:{SECRETS['sentinel']}@{nobody}"],
            "redis_timeout_seconds": 0.2,
        },
        "live": {"redis_url": f"redis://:{SECRETS['live']}@{nobody}/0"},
        "notices": {
            "webhook_url": f"http://{nobody}/hook?key={SECRETS['webhook']}",
            "webhook_secret_file": "signature",
            "tries": 1,
        },
        "log": {"level": "debug"},
        "drain_seconds": 1.0,
    }


def test_no_secret_is_in_anything_that_is_written(work: Path) -> None:
    """Starts, outages, refused reloads, the checking command, at level debug: logs and record hold none."""
    site = Site(work, rules=RULES, settings=settings())
    signature = site.folder / "signature"
    signature.write_text(SECRETS["signature"] + "\n")
    signature.chmod(0o600)
    site.config.chmod(0o600)
    said = [command(site, "config", "check")]
    with site.without_postfix():
        with PolicyClient(site.policy_address) as client:
            for instance in ("1.a", "1.b", "1.c"):
                client.ask(instance=instance, sasl_username="bob", recipient="alice@example.net")
        site.policyd.wait_for_text("is away")
        good = site.config.read_text()
        for mistake in (
            good.replace('"redis_url"', "redis_url").replace("redis_url", "redis_ulr"),
            good.replace(SECRETS["store"], SECRETS["unused"]).replace("@mymaster/0", "@mymaster/x"),
            good.replace("redis_sentinels = [", "redis_sentinels = [7, "),
            good.replace("http://127.0.0.1", "ftp://127.0.0.1"),
        ):
            assert mistake != good
            site.config.write_text(mistake)
            refuse(site.policyd)
        said.append(command(site, "config", "check"))
        refuse(site.milter)
    said += [path.read_text(errors="replace") for path in written(site)]

    assert len(said) == 5
    for name, secret in SECRETS.items():
        assert [text for text in said if secret in text] == [], name


def refuse(daemon: Daemon) -> None:
    """Have the daemon read its mistaken files, and wait until it has said that it stays as it is."""
    before = daemon.text().count("stays in force")
    daemon.hup()
    wait_until(lambda: daemon.text().count("stays in force") > before, "it says so")


def command(site: Site, *words: str) -> str:
    """What `mailreeve` writes."""
    program = Path(sys.executable).parent / "mailreeve"
    done = subprocess.run(
        [program, *words, "--config", site.config], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def written(site: Site) -> list[Path]:
    """The logs and the record."""
    return [site.policyd.log, site.milter.log, site.audit]
