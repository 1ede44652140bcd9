"""Text to nodes, by Lark (LALR, no recursion at any depth). What a word means is the compiler's.

Lark is known in this file and in syntax.py alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.lark import PostLex

from mailreeve_policyd.rules import nodes
from mailreeve_policyd.rules.nodes import (
    ActionNode,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Key,
    Not,
    Number,
    Operator,
    Period,
    RuleNode,
    RulesFile,
    Spec,
    Subject,
    Text,
    Value,
    ValueList,
    Word,
)
from mailreeve_policyd.rules.source import Mistake, Place, Source, quote
from mailreeve_policyd.rules.syntax import check_characters, syntax_mistake

MAX_NESTING = 40
"""Parentheses and `not` within each other: a closure calls the next one, and Python's stack is finite."""

MAX_DIGITS = 15
"""Of a number: 10^15 units is more than any limit counts, and exact in every store."""

_ESCAPED = re.compile(r"\\(.)")
_Statement = (
    nodes.SetNode | nodes.TableNode | nodes.TextNode | nodes.LanguageNode | nodes.Block | nodes.ExpectNode
)


def parse(source: Source) -> RulesFile:
    """The statements of a rules file.

    Raises:
        Mistake: the first place where the text is no rules file.
    """
    check_characters(source.text)
    try:
        parsed = _parser().parse(source.text)
    except UnexpectedInput as error:
        raise syntax_mistake(error, source.text) from error
    if not isinstance(parsed, RulesFile):  # pragma: no cover -- the builder's start() gives nothing else
        raise TypeError(type(parsed))
    return replace(parsed, source=source)


class _WholeWords(PostLex):
    """Has these terminals recognised everywhere, so that a misplaced word is told as a whole word."""

    always_accept = (
        *("NAME", "STRING", "NUMBER", "NETWORK", "ORDER", "COLON", "COMMA", "EQUAL", "SLASH"),
        *("LBRACE", "RBRACE", "LPAR", "RPAR", "LSQB", "RSQB"),
    )

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Changes nothing."""
        return stream


@cache  # the one parser of the process: building it costs a hundred times what a parse costs
def _parser() -> Lark:
    return Lark(
        Path(__file__).with_name("grammar.lark").read_text("utf-8"),
        parser="lalr",
        lexer="contextual",
        postlex=_WholeWords(),
        propagate_positions=True,
        maybe_placeholders=True,
        transformer=_Builder(),
    )


def _place(token: Token) -> Place:
    return Place(token.line or 1, token.column or 1)


def _word(token: Token) -> Word:
    return Word(_place(token), str(token))


def _maybe_word(token: Token | None) -> Word | None:
    return _word(token) if token is not None else None


def _text(token: Token) -> Text:
    return Text(_place(token), _ESCAPED.sub(r"\1", str(token)[1:-1]))


def _number(token: Token) -> Number:
    if len(token) > MAX_DIGITS:
        raise Mistake(_place(token), f"the number {quote(token)} is too large")
    return Number(_place(token), int(token))


def _value(token: Token) -> Value:
    match token.type:
        case "STRING":
            return _text(token)
        case "NUMBER":
            return _number(token)
        case "NETWORK":
            return nodes.Network(_place(token), str(token))
        case _:
            return _word(token)


def _comparison(
    operator: Operator, subject: Subject, right: Value | ValueList | Subject | None = None
) -> Comparison:
    return Comparison(subject, operator, right)


def _depth(condition: Condition) -> int:
    return 0 if isinstance(condition, Comparison) else condition.depth


def _deeper(parts: tuple[Condition, ...]) -> int:
    depth = 1 + max(_depth(part) for part in parts)
    if depth > MAX_NESTING:
        at = _first_place(parts[0])
        raise Mistake(at, f"conditions nested more than {MAX_NESTING} deep", "use sets, or several rules")
    return depth


def _first_place(condition: Condition) -> Place:
    while not isinstance(condition, Comparison):
        condition = condition.inner if isinstance(condition, Not) else condition.parts[0]
    return condition.subject.at


@v_args(inline=True)
class _Builder(Transformer[Token, object]):
    """One method a rule of the grammar; Lark calls them bottom-up while it parses."""

    def start(self, *statements: _Statement) -> RulesFile:
        return RulesFile(
            tuple(each for each in statements if isinstance(each, nodes.SetNode)),
            tuple(each for each in statements if isinstance(each, nodes.TableNode)),
            tuple(each for each in statements if isinstance(each, nodes.Block)),
            tuple(each for each in statements if isinstance(each, nodes.ExpectNode)),
            tuple(each for each in statements if isinstance(each, nodes.TextNode)),
            tuple(each for each in statements if isinstance(each, nodes.LanguageNode)),
        )

    # sets and tables

    def set(self, name: Token, source: nodes.SetNode) -> nodes.SetNode:
        return nodes.SetNode(_word(name), source.entries, source.backend, source.argument)

    def literal(self, *entries: Value) -> nodes.SetNode:
        return nodes.SetNode(Word(Place(1, 1), ""), entries)

    def from_backend(self, backend: Token, argument: Token) -> nodes.SetNode:
        return nodes.SetNode(Word(Place(1, 1), ""), (), _word(backend), _text(argument))

    def entry(self, token: Token) -> Value:
        return _value(token)

    def table(self, name: Token, backend: Token, argument: Token) -> nodes.TableNode:
        return nodes.TableNode(_word(name), _word(backend), _text(argument))

    # texts and their language

    def text(self, name: Token, *wordings: nodes.Wording) -> nodes.TextNode:
        return nodes.TextNode(_text(name), wordings)

    def wording(self, language: Token, text: Token) -> nodes.Wording:
        return nodes.Wording(_word(language), _text(text))

    def language(self, asked: Subject | None, default: Token) -> nodes.LanguageNode:
        text = _text(default)
        return nodes.LanguageNode(asked.at if asked else text.at, asked, text)

    # rules

    def block(self, stage: Token, *rest: RuleNode | Token) -> nodes.Block:
        rules = tuple(each for each in rest if isinstance(each, RuleNode))
        (end,) = (_place(each) for each in rest if isinstance(each, Token))
        return nodes.Block(_word(stage), rules, end)

    def rule(
        self,
        observe: Token | None,
        label: Token,
        body: ActionNode | nodes.LimitNode,
        when: tuple[Condition, Word | None] | None,
    ) -> RuleNode:
        condition, on_unknown = when if when is not None else (None, None)
        return RuleNode(_word(label), body, condition, on_unknown, _maybe_word(observe))

    def when(self, condition: Condition, on_unknown: Token | None) -> tuple[Condition, Word | None]:
        return condition, _maybe_word(on_unknown)

    def action(self, verb: Token, argument: nodes.Argument | None) -> ActionNode:
        return ActionNode(_word(verb), argument)

    def written(self, token: Token) -> Text:
        return _text(token)

    def cited(self, token: Token) -> nodes.Cited:
        return nodes.Cited(_place(token), _text(token).text)

    def otherwise(self, action: ActionNode) -> ActionNode:
        return action

    def limit(
        self,
        quota: Spec | nodes.FromTable,
        keys: tuple[Key, ...],
        spoofable: Token | None,
        warning: nodes.WarningNode | None,
        otherwise: ActionNode | None,
        unavailable: Word | None,
    ) -> nodes.LimitNode:
        return nodes.LimitNode(quota, keys, otherwise, _maybe_word(spoofable), warning, unavailable)

    def keys(self, *keys: Key) -> tuple[Key, ...]:
        return keys

    def warning(self, keyword: Token, percent: Token, argument: nodes.Argument | None) -> nodes.WarningNode:
        return nodes.WarningNode(_place(keyword), _number(percent), argument)

    def unavailable(self, word: Token) -> Word:
        return _word(word)

    def from_table(self, table: Token, key: Subject, default: Spec | None) -> nodes.FromTable:
        return nodes.FromTable(_word(table), key, default)

    def counted(self, maximum: Token, unit: Token, period: Period) -> Spec:
        return Spec(_number(maximum), _word(unit), None, period)

    def distinct(self, maximum: Token, subject: Subject, period: Period) -> Spec:
        return Spec(_number(maximum), None, Key(subject), period)

    def distinct_prefix(self, maximum: Token, subject: Subject, prefix: Token, period: Period) -> Spec:
        return Spec(_number(maximum), None, Key(subject, _number(prefix)), period)

    def period(self, count: Token | None, unit: Token) -> Period:
        return Period(_number(count) if count is not None else None, _word(unit))

    def key(self, subject: Subject, prefix: Token | None) -> Key:
        return Key(subject, _number(prefix) if prefix is not None else None)

    # conditions

    def fact(self, name: Token) -> Subject:
        return Subject(_place(name), str(name))

    def attribute(self, name: Token) -> Subject:
        text = _text(name)
        return Subject(text.at, text.text, is_attribute=True)

    def lookup(self, table: Token, key: Subject) -> Subject:
        return replace(key, table=_word(table))

    def any_of(self, *parts: Condition) -> Condition:
        return AnyOf(parts, _deeper(parts)) if len(parts) > 1 else parts[0]

    def all_of(self, *parts: Condition) -> Condition:
        return AllOf(parts, _deeper(parts)) if len(parts) > 1 else parts[0]

    def negated(self, inner: Condition) -> Not:
        return Not(inner, _deeper((inner,)))

    def present(self, subject: Subject) -> Comparison:
        return _comparison(Operator.PRESENT, subject)

    def equal(self, subject: Subject, right: Value | Subject) -> Comparison:
        return _comparison(Operator.IS, subject, right)

    def unequal(self, subject: Subject, right: Value | Subject) -> Comparison:
        return _comparison(Operator.IS_NOT, subject, right)

    def ordered(self, subject: Subject, operator: Token, right: Token | Subject) -> Comparison:
        bound = right if isinstance(right, Subject) else _number(right)
        return _comparison(Operator(str(operator)), subject, bound)

    def contained(self, subject: Subject, right: Value | ValueList | Subject) -> Comparison:
        return _comparison(Operator.IN, subject, right)

    def has(self, subject: Subject, right: Token) -> Comparison:
        return _comparison(Operator.HAS, subject, _text(right))

    def under(self, subject: Subject, right: Value | ValueList) -> Comparison:
        return _comparison(Operator.UNDER, subject, right)

    def matches(self, subject: Subject, regex: Token) -> Comparison:
        pattern, _, flag = str(regex)[1:].rpartition("/")
        text = Text(_place(regex), pattern.replace("\\/", "/"))
        return Comparison(subject, Operator.MATCHES, text, ignore_case=flag == "i")

    def list(self, *values: Value) -> ValueList:
        return ValueList(values[0].at, values)

    def value(self, token: Token) -> Value:
        return _value(token)

    # expect lines

    def expect(
        self,
        keyword: Token,
        action: Token,
        stage: Token,
        givens: tuple[nodes.Given, ...] | None,
        members: tuple[nodes.Member, ...] | None,
        after: nodes.After | None,
    ) -> nodes.ExpectNode:
        return nodes.ExpectNode(
            _place(keyword), _word(action), _word(stage), givens or (), members or (), after
        )

    def givens(self, *givens: nodes.Given) -> tuple[nodes.Given, ...]:
        return givens

    def given(self, subject: Subject, value: Value | ValueList) -> nodes.Given:
        return nodes.Given(subject, value)

    def members(self, *members: nodes.Member) -> tuple[nodes.Member, ...]:
        return members

    def member(self, set_name: Token, entry: Token) -> nodes.Member:
        return nodes.Member(_word(set_name), _text(entry))

    def row(self, table: Token, key: Token, value: Token) -> nodes.Member:
        return nodes.Member(_word(table), _text(key), _text(value))

    def after(
        self, times: Token, word: Token, others: nodes.Others | None, within: Period | None
    ) -> nodes.After:
        return nodes.After(_number(times), _word(word), others, within)

    def others(self, word: Token, *subjects: Subject) -> nodes.Others:
        return nodes.Others(_word(word), subjects)
