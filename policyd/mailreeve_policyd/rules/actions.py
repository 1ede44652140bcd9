"""Actions other than `limit`, compiled: what their argument means, and whether the door can do them here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mailreeve_policyd.judgement import Decision
from mailreeve_policyd.rules.consequences import Decide, Note
from mailreeve_policyd.rules.nodes import ActionNode, Cited, Text
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote, suggest
from mailreeve_policyd.rules.telling import LimitTeller
from mailreeve_policyd.rules.templates import Allowed, Template, compile_template
from mailreeve_policyd.rules.texts import compile_replies, compile_saying, wordings
from mailreeve_policyd.rules.verbs import IMPOSSIBLE, SYNONYMS, Verb
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage, parse_mailbox, split_status
from mailreeve_policyd.verdict import Action

__all__ = ["Decide", "Note", "cannot_know", "compile_action", "default_consequence"]

MAX_TARGET = 256
"""Characters of an address or a filter: a forward-path has 256 octets (RFC 5321 section 4.5.3.1.3)."""

# ftext of RFC 5322 section 3.6.8: printable ASCII but the colon
_FIELD = re.compile(r"([!-9;-~]{1,70}):[ \t]*(?=[^ \t])")
_ANY_CODE = re.compile(r"([0-9]+\.[0-9.]*)(?=\s|\Z)")
_BASIC_CODE = re.compile(r"[245][0-9]{2}(?=[\s-]|\Z)")

# transport:nexthop of access(5); the next hop may be empty
_TRANSPORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*:[!-~]*\Z")

_NEVER_ADDED = frozenset(
    ("from", "sender", "received", "return-path", "authentication-results", "dkim-signature")
)
"""Fields that say who wrote, carried or checked a message. A second From breaks every signature over the
first one, ours among them, and results that a rule writes are believed as if we had found them."""

_WHY_NOT = "it says who wrote, carried or checked the message"

_REFUSED = "Refused by local policy"
_DEFERRED = "Deferred by local policy, please try again later"


@dataclass(frozen=True, slots=True)
class _Compiling:
    """One action to compile; `teller` is that of the limit whose `else` it is."""

    node: ActionNode
    rule: str
    scope: Scope
    teller: LimitTeller | None

    @property
    def of_limit(self) -> bool:
        return self.teller is not None

    @property
    def replies(self) -> Allowed:
        return Allowed.LIMIT_REPLY if self.of_limit else Allowed.REPLY

    def written(self, right: str) -> Text:
        """The argument of an action that takes one text, and none by name."""
        argument = self.node.argument
        if argument is None:
            raise Mistake(self.node.verb.at, f"`{self.node.verb.text}` needs its text", right)
        if isinstance(argument, Cited):
            raise Mistake(argument.at, f"`{self.node.verb.text}` takes no text of several languages", right)
        return argument


def compile_action(
    node: ActionNode, rule: str, scope: Scope, teller: LimitTeller | None = None
) -> Decide | Note:
    """An action with its argument; `teller` for what stands after `else`.

    Raises:
        Mistake: it is unknown, its argument is wrong, or the stage's door cannot do it.
    """
    compiling = _Compiling(node, rule, scope, teller)
    verb = _verb(node, compiling.of_limit)
    impossible = IMPOSSIBLE.get((scope.door, scope.stage, verb))
    if impossible:
        raise Mistake(node.verb.at, f"`{verb.value}` is impossible at {scope.stage.value} here", impossible)
    if compiling.of_limit and verb in (Verb.ACCEPT, Verb.PERMIT):
        hint = f"here may stand {one_of(_names(_ELSE))}"
        raise Mistake(node.verb.at, f"`else {verb.value}` would let in what exceeds the limit", hint)
    return _COMPILERS[verb](compiling)


def _verb(node: ActionNode, of_limit: bool) -> Verb:
    word = node.verb.text
    try:
        return Verb(word)
    except ValueError:
        pass
    if word == "limit":
        raise Mistake(node.verb.at, "a limit cannot stand after `else`", "write two rules")
    known = _names(_ELSE if of_limit else Verb)
    if word == "observe":
        raise Mistake(
            node.verb.at, "`observe` stands before the name of a rule", "write `observe NAME: ACTION`"
        )
    synonym = SYNONYMS.get(word.lower())
    hint = f"did you mean `{synonym}`?" if synonym else suggest(word, known)
    raise Mistake(node.verb.at, f"unknown action {quote(word)}", hint or f"there are {one_of(known)}")


def _names(verbs: Iterable[Verb]) -> list[str]:
    return [verb.value for verb in verbs]


def _plain(compiling: _Compiling) -> Decide:
    node = compiling.node
    if node.argument is not None:
        raise Mistake(node.argument.at, f"`{node.verb.text}` takes no text", "say why in a comment (#)")
    return Decide(compiling.rule, compiling.scope.stage, Action(node.verb.text))


def _reasoned(compiling: _Compiling) -> Decide:
    node, scope = compiling.node, compiling.scope
    text = compile_saying(node.argument, scope, compiling.replies) if node.argument else None
    return Decide(compiling.rule, scope.stage, Action(node.verb.text), None, text)


def _refusing(compiling: _Compiling) -> Decide:
    node, rule, scope = compiling.node, compiling.rule, compiling.scope
    action = Action(node.verb.text)
    kind, words = (5, _REFUSED) if action is Action.REJECT else (4, _DEFERRED)
    default = Template((f"{words} ({rule})",))
    if node.argument is None:
        return Decide(rule, scope.stage, action, EnhancedStatus(kind, 7, 1), default)
    for _, text in wordings(node.argument, scope):
        _check_code(text, kind, node.verb.text)
    status, rest, saying = compile_replies(node.argument, scope, compiling.replies)
    if not rest.strip():
        saying = default
    return Decide(rule, scope.stage, action, status or EnhancedStatus(kind, 7, 1), saying)


def _check_code(text: Text, kind: int, verb: str) -> None:
    right = f'write `{verb} "{kind}.7.1 ..."`'
    status, _ = split_status(text.text)
    if status is not None and status.kind != kind:
        raise Mistake(text.at, f"the code {status} is not for `{verb}`, whose codes begin with {kind}", right)
    if status is None and _ANY_CODE.match(text.text):
        raise Mistake(text.at, "this text begins with a code that is none (RFC 3463)", right)
    if status is None and _BASIC_CODE.match(text.text):
        raise Mistake(text.at, "this text begins with a reply code, which Mailreeve chooses itself", right)


def _redirecting(compiling: _Compiling) -> Decide:
    target = _address(compiling)
    return Decide(compiling.rule, compiling.scope.stage, Action.REDIRECT, target=target)


def _filtering(compiling: _Compiling) -> Decide:
    right = 'write `filter "smtp:[127.0.0.1]:10025"`'
    text = compiling.written(right)
    if len(text.text) > MAX_TARGET or not _TRANSPORT.match(text.text):
        raise Mistake(text.at, "a filter is a transport of master.cf, a colon and a next hop", right)
    return Decide(compiling.rule, compiling.scope.stage, Action.FILTER, target=text.text)


def _copying(compiling: _Compiling) -> Note:
    text = Template((_address(compiling),))
    return Note(compiling.rule, compiling.scope.stage, Verb.BCC, text)


def _address(compiling: _Compiling) -> str:
    """An address as it stands in the file: nothing from the wire says where mail goes."""
    right = f'write `{compiling.node.verb.text} "postmaster@example.org"`'
    text = compiling.written(right)
    mailbox = parse_mailbox(text.text)
    plain = text.text.isascii() and text.text.isprintable() and not re.search(r"[\s<>,{}]", text.text)
    if not plain or mailbox.domain is None or not mailbox.local_part or len(text.text) > MAX_TARGET:
        problem = f"{quote(text.text)} is no address"
        if "{" in text.text:
            problem = "where mail goes stands in the rules file itself, and never comes from the wire"
        raise Mistake(text.at, problem, right)
    return str(mailbox)


def _add_header(compiling: _Compiling) -> Note:
    right = 'write `add-header "X-Policy: {client_address}"`'
    text = compiling.written(right)
    match = _FIELD.match(text.text)
    if match is None:
        raise Mistake(text.at, "this text is no header field: a name, a colon, a value", right)
    if "{" in match.group(1):
        raise Mistake(text.at, "the name of a header field stands in the rules file itself", right)
    _check_may_be_added(text, match.group(1))
    template = compile_template(text, compiling.scope, compiling.replies, match.end())
    return Note(compiling.rule, compiling.scope.stage, Verb.ADD_HEADER, template, match.group(1))


def _check_may_be_added(text: Text, name: str) -> None:
    lowered = name.lower()
    if lowered in _NEVER_ADDED or lowered.startswith("arc-"):
        hint = 'write a name of your own, such as "X-Policy: ..."'
        raise Mistake(text.at, f"{quote(name)} is no field for a rule to add: {_WHY_NOT}", hint)


def _warn(compiling: _Compiling) -> Note:
    rule, scope, argument = compiling.rule, compiling.scope, compiling.node.argument
    if argument is None:
        saying = Template(("limit exceeded" if compiling.of_limit else "applies",))
        return Note(rule, scope.stage, Verb.WARN, saying)
    return Note(rule, scope.stage, Verb.WARN, compile_saying(argument, scope, compiling.replies))


def _notify(compiling: _Compiling) -> Note:
    argument, scope = compiling.node.argument, compiling.scope
    if argument is None:
        raise Mistake(compiling.node.verb.at, "`notify` needs a text", 'write `notify "{sasl_username} ..."`')
    allowed = Allowed.LIMIT_NOTICE if compiling.of_limit else Allowed.NOTICE
    saying = compile_saying(argument, scope, allowed)
    return Note(
        compiling.rule,
        scope.stage,
        Verb.NOTIFY,
        saying,
        teller=compiling.teller,
        language=scope.language,
    )


_ELSE = tuple(verb for verb in Verb if verb not in (Verb.ACCEPT, Verb.PERMIT))

_COMPILERS: Mapping[Verb, Callable[[_Compiling], Decide | Note]] = {
    Verb.ACCEPT: _plain,
    Verb.PERMIT: _plain,
    Verb.REJECT: _refusing,
    Verb.DEFER: _refusing,
    Verb.DISCARD: _reasoned,
    Verb.HOLD: _reasoned,
    Verb.REDIRECT: _redirecting,
    Verb.FILTER: _filtering,
    Verb.BCC: _copying,
    Verb.ADD_HEADER: _add_header,
    Verb.WARN: _warn,
    Verb.NOTIFY: _notify,
}


def default_consequence(rule: str, scope: Scope) -> Decide:
    """What a limit without `else` does: defer 4.7.1 with the time to wait."""
    text = Text(Place(1, 1), f"Limit {rule} reached, try again in {{retry_after}}")
    template = compile_template(text, scope, Allowed.LIMIT_REPLY)
    return Decide(rule, scope.stage, Action.DEFER, EnhancedStatus(4, 7, 1), template)


def cannot_know(rule: str, stage: Stage) -> Decision:
    """What `on-unknown defer` decides. 4.4.3: a directory server failed (RFC 3463 section 3.5)."""
    reply = Reply(451, EnhancedStatus(4, 4, 3), f"Cannot be checked now ({rule}), please try again later")
    return Decision(stage, rule, Action.DEFER, reply)
