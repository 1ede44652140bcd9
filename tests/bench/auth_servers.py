"""The filters that `bench auth` compares, each with the configuration that does the same work and no more.

All verify for the same authserv-id, sign for the same domain with the same key, ask the same DNS server and
log to a syslog that nobody hears. Who must be told the number of its workers
(rspamd, and our filter) is told the same one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tests.bench.auth_mail import AUTHSERV_ID, DOMAIN, OUR_NETWORK, records
from tests.bench.peer_tree import Confined
from tests.lab.daemons import Daemon
from tests.lab.ports import LOOPBACK
from tests.lab.process import Process
from tests.lab.site import ANY_MODE, format_toml

Engine = Literal["native", "libmilter"]
Duty = Literal["verify", "sign"]
SIGNED = "bh="
COUNTING_NAME = "mailreeve native, counting itself"
RULES = """
at end-of-message {
    own-mail: accept  if sasl_username
    forged:   reject "5.7.26 Fails DMARC of {header_from_domain}"
                  if dmarc is fail and dmarc_policy is reject and spf is fail
    spf-fail: reject "5.7.23 {client_address} may not send for {sender_domain}"
                  if spf is fail and dmarc is none
    doubtful: hold "DMARC"  if dmarc is fail and dmarc_policy in (reject, quarantine)
}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A filter: what it is called, its process and its address.

    `mark` is a text in a field that it adds to a message when it has done its duty. `reads_results` says that
    it judges by the fields of filters before it.
    """

    name: str
    process: Process
    address: str
    mark: str
    reads_results: bool = False


def ours(work: Path, key: Path, duty: Duty, workers: int, engine: Engine) -> Server:
    """Our own filter, for both duties. Its rules count nothing, as no peer does."""
    return _ours(work, f"mailreeve {engine}", _settings(key, engine, workers), RULES, duty)


def ours_counting(work: Path, key: Path, rules: str, workers: int) -> Server:
    """Our own filter where it verifies and decides RCPT by these rules, too: one daemon for both duties."""
    settings = _settings(key, "native", workers)
    settings["milter"]["decides"] = ["rcpt", "end-of-message"]
    settings["policyd"] = {"decides": []}
    return _ours(work, COUNTING_NAME, settings, f"{rules}\n{RULES}", "verify")


def _settings(key: Path, engine: Engine, workers: int) -> dict[str, dict[str, Any]]:
    return {
        "milter": {"socket_mode": ANY_MODE, "engine": engine, "workers": workers},
        "trust": {"networks": [OUR_NETWORK]},
        "authentication": {"authserv_id": AUTHSERV_ID},
        "signing": {"keys": [{"domain": DOMAIN.name, "selector": DOMAIN.selector, "file": str(key)}]},
        "dns": {"servers": [f"{LOOPBACK}:53"]},
    }


def _ours(work: Path, name: str, settings: dict[str, dict[str, Any]], rules: str, duty: Duty) -> Server:
    folder = work / name.replace(" ", "-").replace(",", "")  # Postfix splits its lists of milters there
    (folder / "state").mkdir(parents=True)
    (folder / "rules").write_text(rules)
    address = f"unix:{folder}/socket"
    settings["milter"]["listen"] = address
    settings["audit"] = {"to": "file", "file": str(folder / "audit.jsonl")}
    config = folder / "mailreeve.toml"
    config.write_text(format_toml({"rules": "rules", "state_dir": str(folder / "state"), **settings}))
    return Server(name, Daemon("milter", config, folder), address, _mark(duty, "dmarc=pass"))


def opendkim(work: Path, key: Path, duty: Duty, _workers: int) -> Server:
    """DKIM."""

    def configure(folder: Path) -> str:
        return f"""
            Socket local:{folder}/socket
            UMask 000
            Syslog yes
            SyslogSuccess yes
            Mode {duty[0]}
            InternalHosts {OUR_NETWORK}
            Domain {DOMAIN.name}
            Selector {DOMAIN.selector}
            KeyFile {key}
            RequireSafeKeys no
            Canonicalization relaxed/relaxed
            OversignHeaders From
            AuthservID {AUTHSERV_ID}
            AlwaysAddARHeader yes
            Nameservers {LOOPBACK}
        """

    return _peer(work, ["/usr/sbin/opendkim", "-f", "-x"], configure, _mark(duty, "dkim=pass"))


def dkimpy_milter(work: Path, key: Path, duty: Duty, _workers: int) -> Server:
    """DKIM, by dkimpy and pymilter."""

    def configure(folder: Path) -> str:
        return f"""
            Socket local:{folder}/socket
            PidFile {folder}/pid
            UserID root
            UMask 000
            Syslog yes
            Mode {duty[0]}
            InternalHosts {OUR_NETWORK}
            Domain {DOMAIN.name}
            Selector {DOMAIN.selector}
            KeyFile {key}
            Canonicalization relaxed/relaxed
            AuthservID {AUTHSERV_ID}
        """

    return _peer(work, ["/usr/bin/dkimpy-milter"], configure, _mark(duty, "dkim=pass"))


def pyspf_milter(work: Path, _key: Path, _duty: Duty, _workers: int) -> Server:
    """SPF."""

    def configure(folder: Path) -> str:
        return f"""
            Socket = local:{folder}/socket
            PidFile = {folder}/pid
            UserID = root
            UMask = 0
            debugLevel = 1
            Header_Type = AR
            Authserv_Id = {AUTHSERV_ID}
            HELO_reject = Fail
            Mail_From_reject = Fail
            InternalHosts = {OUR_NETWORK}
        """

    return _peer(work, ["/usr/bin/pyspf-milter"], configure, "spf=pass")


def opendmarc(work: Path, _key: Path, _duty: Duty, _workers: int) -> Server:
    """DMARC, from the results of the filters before it."""

    def configure(folder: Path) -> str:
        return f"""
            Socket local:{folder}/socket
            UMask 000
            Syslog yes
            AuthservID {AUTHSERV_ID}
            TrustedAuthservIDs {AUTHSERV_ID}
            IgnoreHosts /dev/null
            RejectFailures false
            SPFSelfValidate false
        """

    server = _peer(work, ["/usr/sbin/opendmarc", "-f", "-c"], configure, "dmarc=pass")
    return replace(server, reads_results=True)


def rspamd(work: Path, key: Path, duty: Duty, workers: int) -> Server:
    """SPF, DKIM, DMARC, ARC and signing alone: no other module, no rules, no statistics."""

    def configure(folder: Path) -> str:
        (folder / "state").mkdir()
        (folder / "plugins").mkdir()
        for plugin in RSPAMD_PLUGINS:
            (folder / f"plugins/{plugin}.lua").symlink_to(f"/usr/share/rspamd/plugins/{plugin}.lua")
        return RSPAMD.format(
            folder=folder,
            key=key,
            workers=workers,
            server=LOOPBACK,
            network=OUR_NETWORK,
            domain=DOMAIN.name,
            selector=DOMAIN.selector,
            authserv_id=AUTHSERV_ID,
        )

    command = ["/usr/bin/rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c"]
    return _peer(work, command, configure, _mark(duty, "dmarc=pass"))


Maker = Callable[[Path, Path, Duty, int], Server]
PEERS: dict[Duty, dict[str, Maker]] = {
    "verify": {
        "opendkim": opendkim,
        "rspamd": rspamd,
        "dkimpy-milter": dkimpy_milter,
        "pyspf-milter": pyspf_milter,
        "opendmarc": opendmarc,
    },
    "sign": {"opendkim": opendkim, "rspamd": rspamd, "dkimpy-milter": dkimpy_milter},
}
# what mailreeve replaces where it verifies, in the order in which Postfix asks them
CHAIN = ("opendkim", "pyspf-milter", "opendmarc")


def name_server(work: Path) -> Confined:
    """unbound, which knows the domain by heart and asks nobody."""
    folder = work / "unbound"
    folder.mkdir()
    data = "\n".join(f"  local-data: '{line}'" for line in records())
    (folder / "conf").write_text(UNBOUND.format(folder=folder, server=LOOPBACK, data=data))
    return Confined(["/usr/sbin/unbound", "-c", folder / "conf"], folder / "log", f"inet:{LOOPBACK}:53")


def _peer(
    work: Path,
    command: Sequence[str],
    configure: Callable[[Path], str],
    mark: str,
) -> Server:
    name = Path(command[0]).name
    folder = work / name
    folder.mkdir(mode=0o755)
    (folder / "conf").write_text("\n".join(line.strip() for line in configure(folder).splitlines()) + "\n")
    address = f"unix:{folder}/socket"
    process = Confined([*command, folder / "conf"], folder / "log", address)
    return Server(name, process, address, mark)


def _mark(duty: Duty, verified: str) -> str:
    return SIGNED if duty == "sign" else verified


UNBOUND = """
server:
  interface: {server}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  module-config: "iterator"
  local-zone: "." static
  local-zone: "2.0.192.in-addr.arpa." static
  local-data: '. 3600 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 3600'
{data}
remote-control:
  control-enable: no
"""
RSPAMD_PLUGINS = ("spf", "dmarc", "arc", "dkim_signing", "milter_headers")  # its DKIM verifier is built in
RSPAMD = """
options {{
  filters = "spf,dkim";
  explicit_modules = [];
  local_addrs = ["{network}"];
  dns {{ nameserver = ["{server}:53:1"]; timeout = 2s; }}
  url_tld = "/usr/share/rspamd/effective_tld_names.dat";
  tempdir = "{folder}/state";
  hs_cache_dir = "{folder}/state";
  pidfile = "{folder}/pid";
  control_socket = "{folder}/control";
  stats_file = "{folder}/state/stats";
  cache_file = "{folder}/state/symbols";
  dynamic_conf = "{folder}/state/dynamic";
  task_timeout = 60s;
}}
logging {{ type = "file"; filename = "{folder}/rspamd.log"; level = "warning"; }}
actions {{ reject = null; add_header = null; greylist = null; }}
modules {{ path = "{folder}/plugins"; }}
spf {{ spf_cache_size = 2k; spf_cache_expire = 1d; }}
dkim {{ dkim_cache_size = 2k; dkim_cache_expire = 1d; trusted_only = false; skip_multi = false; }}
dmarc {{ }}
arc {{ sign_authenticated = false; sign_local = false; sign_inbound = false; }}
dkim_signing {{
  sign_authenticated = true;
  sign_local = true;
  sign_inbound = false;
  use_domain = "header";
  allow_username_mismatch = true;
  use_redis = false;
  try_fallback = false;
  domain {{ {domain} {{ path = "{key}"; selector = "{selector}"; }} }}
}}
milter_headers {{
  use = ["authentication-results"];
  routines {{ authentication-results {{ hostname = "{authserv_id}"; add_smtp_user = false; }} }}
}}
worker "rspamd_proxy" {{
  bind_socket = "{folder}/socket mode=0666";
  milter = yes;
  timeout = 120s;
  count = {workers};
  upstream "local" {{ self_scan = yes; default = yes; }}
}}
"""
