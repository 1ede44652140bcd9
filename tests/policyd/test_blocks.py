from __future__ import annotations

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.blocks import Blocks
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Transaction, parse_address
from mailreeve_policyd.verdict import Action, Verdict

ALL = frozenset(Stage)
EARLY_AND_RCPT = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)
REPLY = Reply(450, EnhancedStatus(4, 7, 1), "Later")


def moment(
    stage: Stage,
    instance: str | None = None,
    *,
    port: int | None = 40000,
    sender: str = "bob@example.net",
    recipient: str = "alice@example.org",
) -> Transaction:
    session = Session(client_address=parse_address("192.0.2.7"), client_port=port)
    envelope = Envelope(parse_mailbox(sender)) if stage >= Stage.MAIL else None
    return Transaction(stage, session, envelope, recipient=parse_mailbox(recipient), instance=instance)


def decide(
    blocks: Blocks, transaction: Transaction, action: Action = Action.CONTINUE, by: Stage | None = None
) -> tuple[Stage, ...]:
    """Run one request through the memory: which blocks it runs, with this outcome by this block."""
    stages = blocks.begin(transaction)
    reply = REPLY if action.refuses else None
    blocks.remember(transaction, stages, Verdict(action, by or transaction.stage, reply=reply))
    return stages


def test_the_first_recipient_runs_the_early_blocks_and_later_ones_do_not() -> None:
    """Everything is asked at RCPT; connect, helo and mail run once a message."""
    blocks = Blocks(ALL)

    assert decide(blocks, moment(Stage.RCPT, "1")) == EARLY_AND_RCPT
    assert decide(blocks, moment(Stage.RCPT, "1", recipient="carol@example.com")) == (Stage.RCPT,)


def test_the_next_message_runs_them_again() -> None:
    """Another instance is another message, on the same connection and in the same session."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.RCPT, "1"))

    assert decide(blocks, moment(Stage.RCPT, "2")) == EARLY_AND_RCPT


def test_data_and_end_of_message_run_their_own_block() -> None:
    """What was early is over."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.RCPT, "1"))

    assert decide(blocks, moment(Stage.DATA, "1")) == (Stage.DATA,)
    assert decide(blocks, moment(Stage.END_OF_MESSAGE, "1")) == (Stage.END_OF_MESSAGE,)


def test_what_was_asked_at_connect_and_helo_is_not_asked_again_in_that_session() -> None:
    """With smtpd_delay_reject = no Postfix asks early; the same address and port are the same session."""
    blocks = Blocks(ALL)

    assert decide(blocks, moment(Stage.CONNECT)) == (Stage.CONNECT,)
    assert decide(blocks, moment(Stage.HELO)) == (Stage.HELO,)
    for instance in ("1", "2"):
        assert decide(blocks, moment(Stage.RCPT, instance)) == (Stage.MAIL, Stage.RCPT)


def test_what_one_daemon_decides_is_no_matter_of_another() -> None:
    """Which blocks a request runs is found once for each stage, daemon and past, and never mixed up."""
    rcpt_alone, no_helo = frozenset({Stage.RCPT}), ALL - {Stage.HELO}
    past = {ALL: EARLY_AND_RCPT, rcpt_alone: (Stage.RCPT,), no_helo: (Stage.CONNECT, Stage.MAIL, Stage.RCPT)}

    for _ in range(2):
        for decides, stages in past.items():
            blocks = Blocks(decides)
            assert decide(blocks, moment(Stage.RCPT, "1")) == stages
            assert decide(blocks, moment(Stage.RCPT, "1")) == (Stage.RCPT,)
    assert decide(Blocks(rcpt_alone), moment(Stage.DATA, "1")) == ()


def test_another_port_is_another_session() -> None:
    """Postfix serves one client after another with one policy connection."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.CONNECT))

    assert decide(blocks, moment(Stage.RCPT, "1", port=40001)) == EARLY_AND_RCPT


def test_without_a_port_no_session_is_recognised() -> None:
    """Postfix before 3.0 sends none; running a block again is better than never."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.CONNECT, port=None))

    assert decide(blocks, moment(Stage.RCPT, "1", port=None)) == EARLY_AND_RCPT


def test_a_connect_request_begins_a_new_session() -> None:
    """A client may come back from the same port."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.HELO))
    decide(blocks, moment(Stage.CONNECT))

    assert decide(blocks, moment(Stage.RCPT, "1")) == (Stage.HELO, Stage.MAIL, Stage.RCPT)


def test_a_message_whose_mail_was_asked_does_not_run_the_mail_block_again() -> None:
    """At MAIL there is no instance yet; the next message of this sender in this session is meant."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.MAIL))

    assert decide(blocks, moment(Stage.RCPT, "1")) == (Stage.CONNECT, Stage.HELO, Stage.RCPT)
    assert decide(blocks, moment(Stage.RCPT, "2")) == EARLY_AND_RCPT


def test_mail_of_another_sender_is_not_this_message() -> None:
    """Then MAIL was given up, and this message's was not asked about."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.MAIL))

    assert decide(blocks, moment(Stage.RCPT, "1", sender="eve@example.net")) == EARLY_AND_RCPT


def test_a_refusal_by_an_early_block_holds_for_all_recipients_of_the_message() -> None:
    """Decided once, charged once, answered as often as asked; the next message is decided anew."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.RCPT, "1"), Action.DEFER, by=Stage.MAIL)

    blocks.begin(moment(Stage.RCPT, "1", recipient="carol@example.com"))
    assert blocks.refusal is not None
    assert blocks.refusal.reply == REPLY

    blocks.begin(moment(Stage.RCPT, "2"))
    assert blocks.refusal is None


def test_a_refusal_of_one_recipient_leaves_the_early_blocks_undecided() -> None:
    """A refused request is charged nothing, so the mail block's limits have not counted this message yet."""
    blocks = Blocks(ALL)
    decide(blocks, moment(Stage.RCPT, "1"), Action.REJECT, by=Stage.RCPT)

    assert blocks.refusal is None
    assert decide(blocks, moment(Stage.RCPT, "1", recipient="carol@example.com")) == EARLY_AND_RCPT
    assert decide(blocks, moment(Stage.RCPT, "1", recipient="dan@example.com")) == (Stage.RCPT,)


def test_stages_of_the_other_daemon_are_not_run() -> None:
    """`decides` says which are ours; nothing is left of an end-of-message request by default."""
    blocks = Blocks(frozenset({Stage.MAIL, Stage.RCPT}))

    assert decide(blocks, moment(Stage.RCPT, "1")) == (Stage.MAIL, Stage.RCPT)
    assert blocks.begin(moment(Stage.END_OF_MESSAGE, "1")) == ()


def test_without_an_instance_nothing_is_remembered_of_a_message() -> None:
    """An absent instance equals no other."""
    blocks = Blocks(ALL)

    assert decide(blocks, moment(Stage.RCPT)) == EARLY_AND_RCPT
    assert decide(blocks, moment(Stage.RCPT)) == EARLY_AND_RCPT


class Gatherer:
    """Finds what it is asked for, and remembers what that was."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def __call__(self, transaction: Transaction, needs: frozenset[str]) -> Evidence:
        self.asked.append(needs)
        return Evidence(tuple(MethodResult(need, "pass") for need in sorted(needs)))


def test_evidence_is_gathered_once_a_message() -> None:
    """What the first recipient's rules needed is there for the others; only what is missing is asked."""
    blocks, gather = Blocks(ALL), Gatherer()
    for instance, needs in (("1", {"spf"}), ("1", {"spf"}), ("1", {"spf", "iprev"}), ("2", {"spf"})):
        transaction = moment(Stage.RCPT, instance)
        blocks.begin(transaction)
        found = blocks.with_evidence(transaction, frozenset(needs), gather).evidence
        assert found is not None
        assert {result.method for result in found.results} == needs

    assert gather.asked == [{"spf"}, {"iprev"}, {"spf"}]


def test_nothing_is_gathered_that_no_rule_needs() -> None:
    """No DNS without a reason."""
    blocks, gather = Blocks(ALL), Gatherer()
    for instance in ("1", None):
        transaction = moment(Stage.RCPT, instance)
        blocks.begin(transaction)
        assert blocks.with_evidence(transaction, frozenset(), gather).evidence is None

    assert gather.asked == []


def test_evidence_without_an_instance_is_gathered_for_that_request_alone() -> None:
    """At MAIL there is nothing to tie it to."""
    blocks, gather = Blocks(ALL), Gatherer()
    for _ in range(2):
        transaction = moment(Stage.MAIL)
        blocks.begin(transaction)
        blocks.with_evidence(transaction, frozenset({"spf"}), gather)

    assert gather.asked == [{"spf"}, {"spf"}]
