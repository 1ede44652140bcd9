"""Actions other than `limit`: what their argument means, and which of them a door can do at a stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from mailreeve_policyd.facts import Door, Fact
from mailreeve_policyd.judgement import Decision, Remark, Wait
from mailreeve_policyd.rules.nodes import ActionNode, Text
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote, suggest
from mailreeve_policyd.rules.templates import Template, compile_template, waits_of
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage, split_status
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, AddHeader


class Verb(Enum):
    """The actions of the language, but for `limit`."""

    ACCEPT = "accept"
    PERMIT = "permit"
    REJECT = "reject"
    DEFER = "defer"
    DISCARD = "discard"
    HOLD = "hold"
    ADD_HEADER = "add-header"
    WARN = "warn"


VERBS: Mapping[Verb, str] = {
    Verb.ACCEPT: "the mail goes on; ends the block of this stage only",
    Verb.PERMIT: "as accept, and Postfix is told OK: its later restrictions are skipped",
    Verb.REJECT: 'refuse for good: `reject "5.7.1 why"`',
    Verb.DEFER: 'refuse for now: `defer "4.7.1 why"`',
    Verb.DISCARD: "take the mail and throw it away",
    Verb.HOLD: "take the mail and keep it in the queue until somebody releases it",
    Verb.ADD_HEADER: 'add a header field: `add-header "Name: value"`; goes on',
    Verb.WARN: "write a warning to the log and the record; goes on",
}
"""Every action with its line of the reference."""

IMPOSSIBLE: Mapping[tuple[Door, Stage, Verb], str] = {
    (Door.POLICY, Stage.END_OF_MESSAGE, Verb.ADD_HEADER): (
        "Postfix ignores PREPEND at end-of-message; add the field at data, or let the milter decide"
    ),
}
"""What a door cannot do at a stage, and why. Everything else it can."""

_SYNONYMS = {
    "drop": "discard", "allow": "accept", "pass": "accept", "ok": "permit", "dunno": "accept",
    "deny": "reject", "block": "reject", "refuse": "reject", "tempfail": "defer", "greylist": "defer",
    "defer_if_permit": "defer", "quarantine": "hold", "prepend": "add-header", "header": "add-header",
    "log": "warn", "rate": "limit", "tag": "add-header",
}  # fmt: skip

_LATER = ("notify", "redirect", "bcc", "filter", "observe", "delay")

# ftext of RFC 5322 section 3.6.8: printable ASCII but the colon
_FIELD = re.compile(r"([!-9;-~]{1,70}):[ \t]*(?=[^ \t])")
_ANY_CODE = re.compile(r"([0-9]+\.[0-9.]*)(?=\s|\Z)")
_BASIC_CODE = re.compile(r"[245][0-9]{2}(?=[\s-]|\Z)")

_NEVER_ADDED = frozenset(
    ("from", "sender", "received", "return-path", "authentication-results", "dkim-signature")
)
"""Fields that say who wrote, carried or checked a message. A second From breaks every signature over the
first one, ours among them, and results that a rule writes are believed as if we had found them."""

_WHY_NOT = "it says who wrote, carried or checked the message"

_REFUSED = "Refused by local policy"
_DEFERRED = "Deferred by local policy, please try again later"


@dataclass(frozen=True, slots=True)
class Decide:
    """An action that decides. As a limit's consequence it may tell how long to wait."""

    rule: str
    stage: Stage
    verdict: Action
    status: EnhancedStatus | None
    text: Template | None

    @property
    def action(self) -> Action | None:
        """The action that it decides."""
        return self.verdict

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What its text asks."""
        return self.text.facts if self.text else ()

    def decide(self, transaction: Transaction, wait: Wait) -> Decision:
        """The decision, its text filled in."""
        if wait.can_never_pass and self.verdict.refuses:
            return self._never(transaction)
        text = self.text.render(transaction, waits_of(wait.longest)) if self.text else None
        if self.status is None:
            return Decision(self.stage, self.rule, self.verdict, reason=text)
        reply = Reply(_code(self.status, self.stage), self.status, text or "")
        return Decision(self.stage, self.rule, self.verdict, reply)

    def _never(self, transaction: Transaction) -> Decision:
        """A request larger than its limit would be deferred for ever (DESIGN.md section 5, promise 3)."""
        if self.verdict is Action.REJECT and self.status and self.text and not self.text.tells_wait:
            reply = Reply(_code(self.status, self.stage), self.status, self.text.render(transaction))
        else:
            status = EnhancedStatus(5, 7, 1)
            reply = Reply(_code(status, self.stage), status, f"Larger than the limit {self.rule} allows")
        return Decision(self.stage, self.rule, Action.REJECT, reply)

    def remark(self, transaction: Transaction) -> Remark:
        """Never asked of an action that decides."""
        raise TypeError(f"{self.verdict} decides, for {transaction.stage}")


@dataclass(frozen=True, slots=True)
class Note:
    """An action that goes on: a field to add where `field` is given, else a warning."""

    rule: str
    field: str | None
    text: Template

    @property
    def action(self) -> Action | None:
        """It decides nothing."""
        return None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What its text asks."""
        return self.text.facts

    def decide(self, transaction: Transaction, wait: Wait) -> Decision:
        """Never asked of an action that goes on."""
        raise TypeError(f"{self.rule} decides nothing, for {transaction.stage} and {wait}")

    def remark(self, transaction: Transaction) -> Remark:
        """The field or the warning, its text filled in."""
        text = self.text.render(transaction)
        if self.field is None:
            return Remark(self.rule, warning=text)
        return Remark(self.rule, edit=AddHeader(self.field, text))


def _code(status: EnhancedStatus, stage: Stage) -> int:
    """550 and 451 stand in the lists of RFC 5321 section 4.3.2 for each command; a greeting has 554."""
    if status.kind == 4:
        return 451
    return 554 if stage is Stage.CONNECT else 550


def compile_action(node: ActionNode, rule: str, scope: Scope, of_limit: bool = False) -> Decide | Note:
    """An action with its argument; `of_limit` for what stands after `else`.

    Raises:
        Mistake: it is unknown, its argument is wrong, or the stage's door cannot do it.
    """
    verb = _verb(node, of_limit)
    impossible = IMPOSSIBLE.get((scope.door, scope.stage, verb))
    if impossible:
        raise Mistake(node.verb.at, f"`{verb.value}` is impossible at {scope.stage.value} here", impossible)
    if of_limit and verb in (Verb.ACCEPT, Verb.PERMIT):
        hint = f"here may stand {one_of(_names(_ELSE))}"
        raise Mistake(node.verb.at, f"`else {verb.value}` would let in what exceeds the limit", hint)
    return _COMPILERS[verb](node, rule, scope, of_limit)


def _verb(node: ActionNode, of_limit: bool) -> Verb:
    word = node.verb.text
    try:
        return Verb(word)
    except ValueError:
        pass
    if word in _LATER:
        raise Mistake(node.verb.at, f"`{word}` is not yet supported", f"there are {one_of(_names(Verb))}")
    known = [*_names(Verb), *(() if of_limit else ("limit",))]
    synonym = _SYNONYMS.get(word.lower().replace("-", "_"))
    hint = f"did you mean `{synonym}`?" if synonym else suggest(word, known)
    raise Mistake(node.verb.at, f"unknown action {quote(word)}", hint or f"there are {one_of(known)}")


def _names(verbs: Iterable[Verb]) -> list[str]:
    return [verb.value for verb in verbs]


def _plain(node: ActionNode, rule: str, scope: Scope, of_limit: bool) -> Decide:
    del of_limit
    if node.argument is not None:
        raise Mistake(node.argument.at, f"`{node.verb.text}` takes no text", "say why in a comment (#)")
    return Decide(rule, scope.stage, Action(node.verb.text), None, None)


def _reasoned(node: ActionNode, rule: str, scope: Scope, of_limit: bool) -> Decide:
    text = compile_template(node.argument, scope, with_waits=of_limit) if node.argument else None
    return Decide(rule, scope.stage, Action(node.verb.text), None, text)


def _refusing(node: ActionNode, rule: str, scope: Scope, of_limit: bool) -> Decide:
    action = Action(node.verb.text)
    kind, words = (5, _REFUSED) if action is Action.REJECT else (4, _DEFERRED)
    text = node.argument
    if text is None:
        return Decide(rule, scope.stage, action, EnhancedStatus(kind, 7, 1), Template((f"{words} ({rule})",)))
    status, rest = split_status(text.text)
    _check_code(text, status, kind, node.verb.text)
    template = compile_template(text, scope, len(text.text) - len(rest), with_waits=of_limit)
    if not rest.strip():
        template = Template((f"{words} ({rule})",))
    return Decide(rule, scope.stage, action, status or EnhancedStatus(kind, 7, 1), template)


def _check_code(text: Text, status: EnhancedStatus | None, kind: int, verb: str) -> None:
    right = f'write `{verb} "{kind}.7.1 ..."`'
    if status is not None and status.kind != kind:
        raise Mistake(text.at, f"the code {status} is not for `{verb}`, whose codes begin with {kind}", right)
    if status is None and _ANY_CODE.match(text.text):
        raise Mistake(text.at, "this text begins with a code that is none (RFC 3463)", right)
    if status is None and _BASIC_CODE.match(text.text):
        raise Mistake(text.at, "this text begins with a reply code, which Mailreeve chooses itself", right)


def _add_header(node: ActionNode, rule: str, scope: Scope, of_limit: bool) -> Note:
    right = 'write `add-header "X-Policy: {client_address}"`'
    text = node.argument
    if text is None:
        raise Mistake(node.verb.at, "`add-header` needs a field", right)
    match = _FIELD.match(text.text)
    if match is None:
        raise Mistake(text.at, "this text is no header field: a name, a colon, a value", right)
    _check_may_be_added(text, match.group(1))
    template = compile_template(text, scope, match.end(), with_waits=of_limit)
    return Note(rule, match.group(1), template)


def _check_may_be_added(text: Text, name: str) -> None:
    lowered = name.lower()
    if lowered in _NEVER_ADDED or lowered.startswith("arc-"):
        hint = 'write a name of your own, such as "X-Policy: ..."'
        raise Mistake(text.at, f"{quote(name)} is no field for a rule to add: {_WHY_NOT}", hint)


def _warn(node: ActionNode, rule: str, scope: Scope, of_limit: bool) -> Note:
    if node.argument is None:
        return Note(rule, None, Template(("limit exceeded" if of_limit else "applies",)))
    return Note(rule, None, compile_template(node.argument, scope, with_waits=of_limit))


_ELSE = tuple(verb for verb in Verb if verb not in (Verb.ACCEPT, Verb.PERMIT))

_COMPILERS: Mapping[Verb, Callable[[ActionNode, str, Scope, bool], Decide | Note]] = {
    Verb.ACCEPT: _plain,
    Verb.PERMIT: _plain,
    Verb.REJECT: _refusing,
    Verb.DEFER: _refusing,
    Verb.DISCARD: _reasoned,
    Verb.HOLD: _reasoned,
    Verb.ADD_HEADER: _add_header,
    Verb.WARN: _warn,
}


def default_consequence(rule: str, scope: Scope) -> Decide:
    """What a limit without `else` does: defer 4.7.1 with the time to wait."""
    text = Text(Place(1, 1), f"Limit {rule} reached, try again in {{retry_after}}")
    template = compile_template(text, scope, with_waits=True)
    return Decide(rule, scope.stage, Action.DEFER, EnhancedStatus(4, 7, 1), template)


def cannot_know(rule: str, stage: Stage) -> Decision:
    """What `on-unknown defer` decides. 4.4.3: a directory server failed (RFC 3463 section 3.5)."""
    reply = Reply(451, EnhancedStatus(4, 4, 3), f"Cannot be checked now ({rule}), please try again later")
    return Decision(stage, rule, Action.DEFER, reply)
