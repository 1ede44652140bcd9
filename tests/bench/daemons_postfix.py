"""`bench daemons` through a real Postfix: our two daemons beside the chain that they replace, and rspamd.

All filters verify the same message; the policy servers, ours and postfwd, count the client's messages. Our
filter stands there without policyd, too, as rspamd counts nothing, and deciding RCPT itself, as where
`milter.decides` has it and there is no policyd.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench import auth_mail
from tests.bench.auth_fleet import Fleet, mails_for
from tests.bench.auth_report import NO_FILTER, OURS, Sample
from tests.bench.auth_servers import CHAIN, ours_counting
from tests.bench.daemons_report import AND_POLICYD, CHAIN_AND_POLICY, RSPAMD
from tests.bench.policy_servers import POSTFWD, Ours, Postfwd, rules_text
from tests.bench.through_postfix import Service, measure_services

COUNTED = "client_address"  # who comes from outside has no login


def measure_postfix(fleet: Fleet, messages: int, rounds: int, workers: int) -> Iterator[tuple[str, Sample]]:
    """Every way in turn, round after round."""
    with ExitStack() as stack:
        services = list(_services(fleet, workers, stack))
        for _, name, sample in measure_services("verify", services, messages, rounds):
            yield name, sample


def _services(fleet: Fleet, workers: int, stack: ExitStack) -> Iterator[Service]:
    work = fleet.work / "postfix-policy"
    work.mkdir()
    running = {one.name: one for one in fleet.start("verify", [auth_mail.SMALL], stack)}
    policyd = Ours(work, "sqlite", "5 rules", None, workers)
    stack.enter_context(policyd)
    yield Service(NO_FILTER)
    for name, one in running.items():
        if name.startswith(OURS):
            yield Service(f"{name}{AND_POLICYD}", [one], policyd)
            yield Service(name, [one])
    counting = ours_counting(work, fleet.key, rules_text("5 rules"), workers)
    alone = fleet.run(counting, {auth_mail.SMALL: mails_for("verify", auth_mail.SMALL)}, work, stack)
    if alone is not None:
        yield Service(alone.name, [alone])
    if RSPAMD in running:
        yield Service(RSPAMD, [running[RSPAMD]])
    if not all(name in running for name in CHAIN):
        return
    if not POSTFWD.exists():
        fleet.absent[CHAIN_AND_POLICY] = "postfwd is not installed (apt-get install postfwd)"
        return
    postfwd = Postfwd(work, COUNTED)
    stack.enter_context(postfwd)
    yield Service(CHAIN_AND_POLICY, [running[name] for name in CHAIN], postfwd)
