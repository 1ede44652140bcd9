"""What the parser hands to the compiler: the rules file as values, each with its place. No meaning yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mailreeve_policyd.rules.source import Place, Source


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word: a name, or a word of a closed set."""

    at: Place
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text, its escapes resolved."""

    at: Place
    text: str


@dataclass(frozen=True, slots=True)
class Network:
    """An IP address, with or without a prefix length, as it was written."""

    at: Place
    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, not negative."""

    at: Place
    value: int


Value = Text | Network | Number | Word


@dataclass(frozen=True, slots=True)
class ValueList:
    """`(a, b, c)`; at least one."""

    at: Place
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked: a fact by its name, or an attribute by the door's name for it.

    With `table` it is what stands there under the fact's value: `roles[sasl_username]`.
    """

    at: Place
    name: str
    is_attribute: bool = False
    table: Word | None = None


class Operator(Enum):
    """The words between a subject and what it is compared with."""

    PRESENT = ""
    IS = "is"
    IS_NOT = "is not"
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="
    IN = "in"
    HAS = "has"
    UNDER = "under"
    MATCHES = "matches"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`subject operator right`; `right` is None for PRESENT, and a Text with slashes cut for MATCHES.

    It is a Subject where the other side comes from a table: `sender in senders[sasl_username]`.
    """

    subject: Subject
    operator: Operator
    right: Value | ValueList | Subject | None = None
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """`not inner`."""

    inner: Condition
    depth: int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`a or b or c`."""

    parts: tuple[Condition, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class AllOf:
    """`a and b and c`."""

    parts: tuple[Condition, ...]
    depth: int


Condition = Comparison | Not | AnyOf | AllOf


@dataclass(frozen=True, slots=True)
class Cited:
    """`text "daily-limit"`: a text that stands elsewhere, in several languages."""

    at: Place
    name: str


Argument = Text | Cited


@dataclass(frozen=True, slots=True)
class ActionNode:
    """An action with its one argument."""

    verb: Word
    argument: Argument | None


@dataclass(frozen=True, slots=True)
class Period:
    """`15 minutes`: the count is None where none is written."""

    count: Number | None
    unit: Word


@dataclass(frozen=True, slots=True)
class Key:
    """What a limit is counted by; `prefix` as in `client_address/48`."""

    subject: Subject
    prefix: Number | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """`60 recipients/minute`, or `5 distinct FACT/hour` with `distinct` set and `unit` None."""

    maximum: Number
    unit: Word | None
    distinct: Key | None
    period: Period


@dataclass(frozen=True, slots=True)
class FromTable:
    """`quotas[sasl_username] or 1000 recipients/day`."""

    table: Word
    key: Subject
    default: Spec | None


@dataclass(frozen=True, slots=True)
class WarningNode:
    """`warn at 80% "..."`."""

    at: Place
    percent: Number
    argument: Argument | None


@dataclass(frozen=True, slots=True)
class LimitNode:
    """`limit QUOTA per KEY, KEY spoofable warn at 80% else ACTION on-unavailable WORD`."""

    quota: Spec | FromTable
    keys: tuple[Key, ...]
    otherwise: ActionNode | None
    spoofable: Word | None = None
    warning: WarningNode | None = None
    on_unavailable: Word | None = None


@dataclass(frozen=True, slots=True)
class RuleNode:
    """`observe NAME: BODY if CONDITION on-unknown WORD`."""

    name: Word
    body: ActionNode | LimitNode
    condition: Condition | None
    on_unknown: Word | None
    observed: Word | None = None

    @property
    def at(self) -> Place:
        """Where it begins."""
        return self.observed.at if self.observed is not None else self.name.at


@dataclass(frozen=True, slots=True)
class SetNode:
    """A set: `entries` where they stand in the file, else what `backend` (file) it comes from."""

    name: Word
    entries: tuple[Value, ...] = ()
    backend: Word | None = None
    argument: Text | None = None


@dataclass(frozen=True, slots=True)
class TableNode:
    """A table and what it comes from."""

    name: Word
    backend: Word
    argument: Text


@dataclass(frozen=True, slots=True)
class Wording:
    """A text in one language: `de "..."`."""

    language: Word
    text: Text


@dataclass(frozen=True, slots=True)
class TextNode:
    """`text "daily-limit" { en "..." de "..." }`."""

    name: Text
    wordings: tuple[Wording, ...]


@dataclass(frozen=True, slots=True)
class LanguageNode:
    """`reply-language = languages[sasl_username] or "en"`; without a table the default is for all."""

    at: Place
    asked: Subject | None
    default: Text


@dataclass(frozen=True, slots=True)
class Block:
    """`at STAGE { ... }`; `end` is its closing brace."""

    stage: Word
    rules: tuple[RuleNode, ...]
    end: Place


@dataclass(frozen=True, slots=True)
class Given:
    """`sasl_username = "bob"` of an expect line."""

    subject: Subject
    value: Value | ValueList


@dataclass(frozen=True, slots=True)
class Member:
    """`staff has "bob"` of an expect line, or `quotas["bob"] = "5 messages/day"` with a `value`."""

    set_name: Word
    entry: Text
    value: Text | None = None


@dataclass(frozen=True, slots=True)
class Others:
    """`other recipient, client_address`."""

    word: Word
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class After:
    """`after 60 times with other recipient in 10 minutes`."""

    times: Number
    word: Word
    others: Others | None
    within: Period | None


@dataclass(frozen=True, slots=True)
class ExpectNode:
    """`expect ACTION at STAGE with ... where ... after ...`."""

    at: Place
    action: Word
    stage: Word
    givens: tuple[Given, ...]
    members: tuple[Member, ...]
    after: After | None


_NO_SOURCE = Source("", "")


@dataclass(frozen=True, slots=True)
class RulesFile:
    """The statements, each kind in the order in which it stands in the file."""

    sets: tuple[SetNode, ...]
    tables: tuple[TableNode, ...]
    blocks: tuple[Block, ...]
    expects: tuple[ExpectNode, ...]
    texts: tuple[TextNode, ...] = ()
    languages: tuple[LanguageNode, ...] = ()
    source: Source = _NO_SOURCE
