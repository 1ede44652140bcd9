"""A load of policy requests as Postfix's smtpd sends them: one request at a time on each connection."""

import selectors
import socket
import time

from tests.lab.ports import parse_address

REQUEST = """\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.10
client_name=mail.example.net
client_port=40000
reverse_client_name=mail.example.net
server_address=127.0.0.1
server_port=25
helo_name=mail.example.net
sender={login}@example.org
recipient=somebody@example.net
recipient_count=0
queue_id=
instance={instance}
size=4096
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username={login}
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=

"""
LOGINS = 1000


def load(address: str, connections: int, seconds: float) -> tuple[int, float]:
    """Ask for so long; how many answers came, in how many seconds. ValueError if one is not DUNNO."""
    selector = selectors.DefaultSelector()
    family, where = parse_address(address)
    opened = [socket.socket(family, socket.SOCK_STREAM) for _ in range(connections)]
    try:
        for connection in opened:
            connection.connect(where)
            selector.register(connection, selectors.EVENT_READ)
        return _ask(selector, opened, seconds)
    finally:
        for connection in opened:
            connection.close()


def ask_once(connection: socket.socket) -> None:
    """One request and its answer; ValueError if that is not DUNNO."""
    connection.sendall(_request(0))
    _check(connection.recv(4096))


def _ask(selector: selectors.BaseSelector, opened: list[socket.socket], seconds: float) -> tuple[int, float]:
    asked, answered = 0, 0
    begun = time.monotonic()
    for connection in opened:
        connection.sendall(_request(asked))
        asked += 1
    while answered < asked:
        for key, _ in selector.select():
            asking = key.fileobj
            assert isinstance(asking, socket.socket)
            _check(asking.recv(4096))
            answered += 1
            if time.monotonic() - begun < seconds:
                asking.sendall(_request(asked))
                asked += 1
    return answered, time.monotonic() - begun


def _request(number: int) -> bytes:
    instance = f"{number % 65536:x}.{time.time_ns():x}.{number:x}.0"
    return REQUEST.format(login=f"user{number % LOGINS}", instance=instance).encode()


def _check(answer: bytes) -> None:
    """Answers are small: one read holds a whole one."""
    if answer != b"action=DUNNO\n\n":
        raise ValueError(f"answered {answer!r}")
