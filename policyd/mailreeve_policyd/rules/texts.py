"""The texts of actions and notices: written where they are used, or cited by name in several languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailreeve_policyd.facts import Fact
from mailreeve_policyd.rules.language import Language
from mailreeve_policyd.rules.nodes import Argument, Cited, Text, TextNode, Wording
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.templates import Allowed, Template, compile_template
from mailreeve_policyd.smtp import EnhancedStatus, split_status
from mailreeve_policyd.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text in several languages; the default is for all others."""

    default: Template
    others: Mapping[str, Template]
    language: Language

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts that stand in any of them."""
        return tuple(fact for text in (self.default, *self.others.values()) for fact in text.facts)

    @property
    def tells_wait(self) -> bool:
        """Does one of them say how long to wait?"""
        return any(text.tells_wait for text in (self.default, *self.others.values()))

    def render(self, transaction: Transaction, values: Mapping[str, str] | None = None) -> str:
        """In the language of the transaction, or of its main tag: `de` for `de-AT`."""
        language = self.language.of(transaction)
        text = self.others.get(language) or self.others.get(language.partition("-")[0]) or self.default
        return text.render(transaction, values)


Saying = Template | Phrase


def compile_saying(argument: Argument, scope: Scope, allowed: Allowed) -> Saying:
    """A text of a notice or a header field's value.

    Raises:
        Mistake: as `compile_template`, or no text has the name that is cited.
    """
    return _saying(
        {tag: compile_template(text, scope, allowed) for tag, text in wordings(argument, scope)}, scope
    )


def wordings(argument: Argument, scope: Scope) -> list[tuple[str, Text]]:
    """The texts by language, the default's first; of a text that stands where it is used that alone.

    Raises:
        Mistake: no text has the name that is cited.
    """
    default = (scope.language or Language()).default
    if isinstance(argument, Text):
        return [(default, argument)]
    found = _cited(argument, scope).wordings
    by_tag = {wording.language.text.lower(): wording.text for wording in found}
    first = (default, by_tag.pop(default))  # check_texts has seen to it
    return [first, *by_tag.items()]


def _saying(templates: Mapping[str, Template], scope: Scope) -> Saying:
    (_, default), *others = templates.items()
    if not others:
        return default
    return Phrase(default, dict(others), scope.language or Language())


def _cited(cited: Cited, scope: Scope) -> TextNode:
    found = scope.texts.get(cited.name)
    if found is None:
        hint = suggest(cited.name, scope.texts)
        hint = hint or f'write `text "{cited.name[:40]}" {{ en "..." }}` at the top of the file'
        raise Mistake(cited.at, f"there is no text {quote(cited.name)}", hint)
    return found


def compile_replies(
    argument: Argument, scope: Scope, allowed: Allowed
) -> tuple[EnhancedStatus | None, str, Saying]:
    """A reply's text: its enhanced code if it has one, the words of the first language, and the text.

    Raises:
        Mistake: as `compile_saying`, or the languages do not have one code.
    """
    (tag, first), *_ = texts = wordings(argument, scope)
    status, rest = split_status(first.text)
    templates: dict[str, Template] = {}
    for language, text in texts:
        other, words = split_status(text.text)
        if other != status:
            hint = "a text has one code in all languages, or none"
            raise Mistake(text.at, f"the code in `{language}` is another than in `{tag}`", hint)
        templates[language] = compile_template(text, scope, allowed, len(text.text) - len(words))
    return status, rest, _saying(templates, scope)


def check_texts(nodes: tuple[TextNode, ...], language: Language) -> Mapping[str, TextNode]:
    """The texts of a file by their names.

    Raises:
        Mistake: a name or a language stands twice, or a text lacks the default language.
    """
    found: dict[str, TextNode] = {}
    for node in nodes:
        other = found.setdefault(node.name.text, node)
        if other is not node:
            problem = f"the name {quote(node.name.text)} is taken by the text of line {other.name.at.line}"
            raise Mistake(node.name.at, problem, "each has its own name")
        _check_wordings(node, language)
    return found


def _check_wordings(node: TextNode, language: Language) -> None:
    seen: dict[str, Wording] = {}
    for wording in node.wordings:
        tag = wording.language.text.lower()
        if seen.setdefault(tag, wording) is not wording:
            raise Mistake(wording.language.at, f"the language {quote(tag)} stands twice in this text")
    if language.default not in seen:
        problem = f"the text {quote(node.name.text)} has no `{language.default}`, the default language"
        hint = f'add `{language.default} "..."`, or write `reply-language = "{next(iter(seen))}"`'
        raise Mistake(node.name.at, f"{problem}; it has {one_of(seen)}", hint)
