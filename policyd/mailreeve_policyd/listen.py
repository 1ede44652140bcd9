"""Where a daemon listens: addresses as Postfix and Sendmail write them, and the sockets bound to them.

Knows sockets and files, no daemon and no protocol on them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that may wait to be accepted: every smtpd of a busy server may come at once after a restart."""

MAX_UNIX_PATH_OCTETS = 107
"""sun_path holds 108 octets on Linux, with its NUL (unix(7))."""

MOST_LOCKS = 10
"""Tries to lock a file that another one removes just then."""

HINT = 'for instance "unix:/run/mailreeve/policy.sock" or "inet:10040@127.0.0.1"'


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system, at an absolute path."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A TCP port of this machine; a host name stands for its first address. Port 0: any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"inet:{self.port}@{self.host}"


Address = UnixAddress | InetAddress

# port "@" host, or host ":" port, IPv6 in brackets or not
_PORT_AT_HOST = re.compile(r"(?P<port>\d{1,5})@\[?(?P<host>[^\[\]@\s]+)\]?\Z")
_HOST_COLON_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]\s]+)\]|(?P<host>[^:@\[\]\s]+)):(?P<port>\d{1,5})\Z")


def parse_listen(text: str, file: str, key: str) -> Address:
    """`unix:/path`, `inet:port@host` (Sendmail) or `inet:host:port` (Postfix); `local:` and `inet6:` as well.

    `file` and `key` tell the operator where the text stands.

    Raises:
        ConfigError: none of these, a relative or over-long path, a port that cannot be.
    """
    kind, _, rest = text.partition(":")
    if kind in ("unix", "local"):
        return _parse_unix(rest, file, key)
    if kind in ("inet", "inet6"):
        return _parse_inet(rest, file, key)
    raise ConfigError(file, key, f"not an address to listen at: {escape(text)!r}", HINT)


def _parse_unix(path: str, file: str, key: str) -> UnixAddress:
    if not path.startswith("/"):
        raise ConfigError(file, key, f"not an absolute path: {escape(path)!r}", HINT)
    if len(os.fsencode(path)) > MAX_UNIX_PATH_OCTETS or "\0" in path:
        problem = f"a socket's path has at most {MAX_UNIX_PATH_OCTETS} octets: {escape(path)!r}"
        raise ConfigError(file, key, problem)
    return UnixAddress(Path(path))


def _parse_inet(rest: str, file: str, key: str) -> InetAddress:
    if match := _PORT_AT_HOST.match(rest):
        host, port = match["host"], int(match["port"])
    elif match := _HOST_COLON_PORT.match(rest):
        host, port = match["v6"] or match["host"], int(match["port"])
    else:
        raise ConfigError(file, key, f"not a port and a host: {escape(rest)!r}", HINT)
    if not 0 < port < 65536:
        raise ConfigError(file, key, f"no TCP port: {port}", "1 to 65535")
    return InetAddress(host, port)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may connect to a unix socket: its mode, and its owner and group (-1: left as they are)."""

    mode: int = 0o660
    user: int = -1
    group: int = -1


@dataclass(slots=True)
class Listener:
    """A bound, listening, non-blocking socket; `inode` names the file that it made, None on TCP."""

    address: Address
    socket: socket.socket
    inode: tuple[int, int] | None = None

    def close(self) -> None:
        """Close, and remove the socket's file if it is still ours. Never raises."""
        self.socket.close()
        if not isinstance(self.address, UnixAddress):
            return
        try:
            with _alone_at(self.address.path):
                if _inode(self.address.path) == self.inode:
                    self.address.path.unlink()
        except (FileNotFoundError, BlockingIOError):  # who starts there now removes it
            pass
        except OSError as error:
            log.warning("%s was not removed: %s", self.address, error.strerror)


def bind(address: Address, ownership: Ownership = Ownership()) -> Listener:
    """Listen at `address`; what a dead daemon left there is removed first.

    Raises:
        ConfigError: it cannot be: in use, not allowed, no such folder or host.
    """
    try:
        if isinstance(address, UnixAddress):
            with _alone_at(address.path):
                return _bind_unix(address, ownership)
        return _bind_inet(address)
    except BlockingIOError as error:
        raise ConfigError(
            "", str(address), "cannot listen: another daemon is starting there", _IN_USE
        ) from error
    except OSError as error:
        problem = f"cannot listen: {error.strerror or error}"
        raise ConfigError("", str(address), problem, _hint(address, error)) from error


_IN_USE = "another process listens there; is the daemon already running?"


def _hint(address: Address, error: OSError) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return _IN_USE
    if error.errno == errno.EPERM and isinstance(address, UnixAddress):
        return "who is not root can give a socket only to a group that it is in (socket_group)"
    if error.errno == errno.EACCES and isinstance(address, UnixAddress) and lock_of(address.path).exists():
        return f"remove {lock_of(address.path)}, which a start as another user left when it was killed"
    if error.errno == errno.ENOENT and isinstance(address, UnixAddress):
        return f"the folder {address.path.parent} does not exist"
    return None


def _bind_unix(address: UnixAddress, ownership: Ownership) -> Listener:
    _remove_stale(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # It is made with its mode (the file gets 0777 less the umask): nobody may connect before that is
        # right, and to change it later by its name is to change what else was put there meanwhile.
        before = os.umask(0o777 & ~ownership.mode)
        try:
            sock.bind(str(address.path))
        finally:
            os.umask(before)
        if (ownership.user, ownership.group) != (-1, -1):  # a sandbox may forbid even to ask for nothing
            os.chown(address.path, ownership.user, ownership.group, follow_symlinks=False)
        return Listener(address, _listening(sock), _inode(address.path))
    except OSError:
        if sock.getsockname():  # it was made, and not given to whom it should be
            address.path.unlink(missing_ok=True)
        sock.close()
        raise


def _bind_inet(address: InetAddress) -> Listener:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        bound = InetAddress(address.host, int(sock.getsockname()[1]))
        return Listener(bound, _listening(sock))
    except OSError:
        sock.close()
        raise


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    sock.setblocking(False)  # several workers accept from it: who comes too late must not hang in accept
    return sock


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Be the only one to make or remove the socket at `path`, by a locked file beside it for that long.

    Between the look whether somebody listens and the moment when we do, another daemon that starts would find
    nobody, and remove ours. The kernel unlocks what a dead process had locked.

    Raises:
        BlockingIOError: another one is at it.
        OSError: no file can be made there.
    """
    lock = lock_of(path)
    descriptor = _lock(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def lock_of(path: Path) -> Path:
    """The file that is locked while the socket at `path` is made or removed: hidden, and short enough."""
    return path.with_name(f".{hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()}.lock")


def _lock(lock: Path) -> int:
    for _ in range(MOST_LOCKS):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, lock):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has removed it meanwhile
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _remove_stale(path: Path) -> None:
    """Remove a socket at which nobody listens; anything else stays and is an error."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, f"{path} is there and is no socket")
        if _answers(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()
        log.info("removed %s, left by a daemon that did not end cleanly", path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog blocks a blocking probe: EAGAIN means that somebody listens.
        probe.setblocking(False)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED
