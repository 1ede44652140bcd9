"""Where the unpacked servers are, and the environment their programs need.

Knows paths only. Stdlib only, because `unpack` runs before there is a virtual environment.
"""

import os
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / ".build"
ROOT = BUILD / "root"
SENDMAIL_ROOT = BUILD / "sendmail"  # apart: several of its programs are named as Postfix's are
STAMP_NAME = ".complete"
STAMP = ROOT / STAMP_NAME


class LabMissingError(Exception):
    """The servers are not unpacked; the text tells what to type."""


def program(path: str, root: Path = ROOT) -> Path:
    """A program of the tree by its installed path, as "usr/sbin/postqueue"; LabMissingError without it."""
    found = root / path
    if not (root / STAMP_NAME).exists() or not found.exists():
        raise LabMissingError(f"{path} is not unpacked under {root}: run `make test` or `make demo` first")
    return found


def libraries() -> list[Path]:
    """The folders where the tree's shared libraries lie, Postfix's own first."""
    triplet = multiarch()
    return [ROOT / "usr/lib/postfix", ROOT / "usr/lib" / triplet, ROOT / "lib" / triplet]


def sasl_plugins() -> Path:
    """The folder of the tree's Cyrus SASL plugins, among them sasldb."""
    return ROOT / "usr/lib" / multiarch() / "sasl2"


def multiarch() -> str:
    """Debian's name of this architecture's library folder, such as "x86_64-linux-gnu"."""
    told = sysconfig.get_config_var("MULTIARCH")
    return told if isinstance(told, str) else f"{os.uname().machine}-linux-gnu"


def perl_modules() -> list[Path]:
    """The folders where the tree's Perl finds its own modules and Debian's packaged ones."""
    both = (ROOT / "usr/share", ROOT / "usr/lib" / multiarch())
    patterns = ("perl5", "perl5/5.*", "perl/5.*", "perl-base")  # packaged ones, and those of Perl itself
    return [folder for place in both for pattern in patterns for folder in sorted(place.glob(pattern))]


def environment() -> dict[str, str]:
    """A small environment in which the tree's programs find their libraries and plugins."""
    return {
        "PATH": os.pathsep.join(str(ROOT / place) for place in ("usr/sbin", "usr/bin"))
        + ":/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C",
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries())),
        "SASL_PATH": str(sasl_plugins()),
        "PERL5LIB": os.pathsep.join(map(str, perl_modules())),
    }
