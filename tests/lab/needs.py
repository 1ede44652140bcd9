"""What must be on the machine before `pip install` can build pymilter: look for it, install it where we may.

Run as `python3 -m tests.lab.needs` by the Python that the virtual environment is made with. Only a compiler,
header files and the venv module come from Debian's packages; none of them starts a service.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

OLDEST_PYTHON = (3, 11)
INSTALL_TIMEOUT_SECONDS = 900


def main() -> int:
    """Install what is missing, or say what it is; the exit code for the shell."""
    missing = missing_packages()
    refusal = why_not(missing)
    if refusal is None and missing:
        refusal = install(missing)
    if refusal is not None:
        sys.stderr.write(f"mailreeve: {refusal}\n")
    return 0 if refusal is None else 1


def why_not(missing: list[str]) -> str | None:
    """Why it cannot go on with these packages missing, with what to do; None if it can."""
    names = " ".join(missing)
    headers = [name for name in missing if name.startswith("python3-")]
    if sys.version_info < OLDEST_PYTHON:
        return f"Python {'.'.join(map(str, OLDEST_PYTHON))} or later is needed; {sys.executable} is older"
    if headers and not is_debian_python():
        return f"{sys.executable} is not Debian's, and lacks what {' '.join(headers)} brings for Debian's own"
    if missing and shutil.which("apt-get") is None:
        return f"needed and not found: what Debian calls {names}. Install that and try again"
    if missing and os.geteuid() != 0:
        return f"needed and not found: {names}. As root: apt-get install {names}"
    return None


def install(packages: list[str]) -> str | None:
    """Install packages; what went wrong, or None."""
    sys.stdout.write(f"  installing {' '.join(packages)}\n")
    sys.stdout.flush()
    try:
        apt_get("update")
        apt_get("install", "--no-install-recommends", *packages)
    except (OSError, subprocess.SubprocessError) as error:
        return f"could not install {' '.join(packages)}: {error}"
    importlib.invalidate_caches()
    still = missing_packages()
    return f"installed, and still not found: what {' '.join(still)} should bring" if still else None


def missing_packages() -> list[str]:
    """The Debian packages that would bring what is not found."""
    here = {
        "gcc": shutil.which("gcc") is not None,
        "libc6-dev": Path("/usr/include/stdio.h").exists(),
        "libmilter-dev": Path("/usr/include/libmilter/mfapi.h").exists(),
        "python3-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
        "python3-venv": importlib.util.find_spec("ensurepip") is not None,
    }
    return [package for package, found in here.items() if not found]


def is_debian_python() -> bool:
    """Whether Debian's packages python3-* are for the Python that runs this."""
    debian = Path("/usr/bin/python3")
    return (
        sys.base_prefix == "/usr" and debian.exists() and debian.resolve() == Path(sys.executable).resolve()
    )


def apt_get(verb: str, *words: str) -> None:
    """Run apt-get without a question, waiting for one that runs; SubprocessError with what it said."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}  # needrestart may only list
    options = ["-qq", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    done = subprocess.run(
        ["apt-get", *options, verb, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **quiet},
        timeout=INSTALL_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise subprocess.SubprocessError(done.stderr.strip()[-1000:])


if __name__ == "__main__":
    sys.exit(main())
