"""The rules file tests itself: what expect lines say, and that a failing one keeps it from force."""

from __future__ import annotations

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from tests.policyd.live_names import rules_with
from tests.policyd.rules_text import at_rcpt, block, ruleset_of

RULES = 'set staff = "ann"\n' + at_rcpt(
    "office: accept if client_address in 192.0.2.0/24",
    "staff: permit if sasl_username in staff",
    'eve: reject if sasl_username is "eve"',
    'mallory: discard if sasl_username is "mallory"',
    "burst: limit 3 messages/hour per sasl_username",
    "day: limit 5 recipients/day per client_address else hold",
)


@pytest.mark.parametrize(
    "line",
    [
        "accept at rcpt with client_address = 192.0.2.7",
        'permit at rcpt with sasl_username = "ann"',
        'reject at rcpt with sasl_username = "eve"',
        'discard at rcpt with sasl_username = "mallory"',
        'continue at rcpt with sasl_username = "bob"',
        'continue at rcpt with sasl_username = "bob" after 2 times',
        'defer at rcpt with sasl_username = "bob" after 3 times',
        'defer at rcpt with sasl_username = "bob" after 3 times in 59 minutes',
        'continue at rcpt with sasl_username = "bob" after 3 times in 2 hours',
        "hold at rcpt with client_address = 203.0.113.9 after 5 times",
        'continue at rcpt with client_address = 203.0.113.9, recipient = "a@example.org" after 4 times',
        'permit at rcpt with sasl_username = "bob" where staff has "Bob"',
        'permit at rcpt with sasl_username = "bob" where staff has "eve", staff has "bob" after 9 times',
        "continue at rcpt",
    ],
)
def test_an_expect_line_that_is_fulfilled(line: str) -> None:
    """Each of N times is a new message; nothing decided is `continue`."""
    assert len(ruleset_of(RULES + f"expect {line}\n").rules) == 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("accept at rcpt", "expected accept at rcpt, but it is continue\n"),
        (
            'continue at rcpt with sasl_username = "bob" after 3 times',
            "expected continue at rcpt, but it is defer by rule `burst`",
        ),
        ('permit at rcpt with sasl_username = "bob"', "but it is continue"),
    ],
)
def test_a_failing_expect_line_keeps_the_file_from_taking_force(line: str, message: str) -> None:
    """The error has its place, what came instead, and what became of each rule."""
    with pytest.raises(ConfigError, match=message) as caught:
        ruleset_of(RULES + f"expect {line}\n")

    assert caught.value.place == "10:1"
    assert "rcpt burst: " in str(caught.value)


def test_the_lines_know_nothing_of_each_other() -> None:
    """Each begins with an empty store."""
    line = 'expect continue at rcpt with sasl_username = "bob" after 2 times\n'

    ruleset_of(RULES + 2 * line)


def test_a_line_asks_no_network() -> None:
    """What is not given of SPF is none."""
    text = block(Stage.MAIL, "a: reject if spf is fail", "b: accept if spf is none")

    ruleset_of(text + "expect accept at mail\nexpect reject at mail with spf = fail\n")
    ruleset_of(text + "expect defer at mail with spf = temperror\n")


LIMITS = "".join(f"    r{number}: limit 9 messages/hour per sender spoofable\n" for number in range(100))


@pytest.mark.parametrize(
    "lines",
    [
        "expect continue at mail after 120000 times\n" * 2,
        "expect continue at rcpt after 999 times\n" * 2,
        "expect continue at rcpt after 2000 times\n",
        'expect continue at mail where ours has "a"\n' * 1970,
        'expect continue at mail with client_network = "a"\n' * 1970,
    ],
)
def test_what_all_lines_take_is_bounded(lines: str) -> None:
    """A reload waits for them: for each message with each limit, and for rules compiled for a line alone."""
    rules = f'set ours = "b"\nat rcpt {{\n{LIMITS}}}\nat mail {{ a: hold if sender_domain in ours }}\n'
    with pytest.raises(ConfigError, match="the expect lines take more than 200000 steps together"):
        ruleset_of(rules + lines)


def test_a_line_about_a_stage_that_nobody_decides_is_told() -> None:
    """It could never be fulfilled."""
    doors = {Stage.RCPT: Door.POLICY}
    with pytest.raises(ConfigError, match="nobody decides data"):
        ruleset_of(RULES + "expect continue at data\n", doors)


@pytest.mark.parametrize(
    ("action", "word"),
    [
        ('redirect "abuse@example.org"', "redirect"),
        ('filter "smtp:[127.0.0.1]:10025"', "filter"),
        ('bcc "archive@example.org"', "bcc"),
        ('add-header "X-A: b"', "add-header"),
        ('warn "look"', "warn"),
        ('notify "look"', "notify"),
        ("permit", "permit"),
        ("discard", "discard"),
    ],
)
def test_every_action_can_be_expected(action: str, word: str) -> None:
    """What goes on is expected by its own word; a rule under observe does nothing."""
    ruleset_of(at_rcpt(f"a: {action}") + f"expect {word} at rcpt\n")
    with pytest.raises(ConfigError, match=f"expected {word} at rcpt, but it is continue"):
        ruleset_of(at_rcpt(f"observe a: {action}") + f"expect {word} at rcpt\n")


def test_a_warning_can_be_expected_where_it_is_due() -> None:
    """`notify` is any notice: that of `warn at` comes with the message that reaches the mark."""
    rules = at_rcpt("a: limit 10 recipients/hour per sasl_username warn at 80%")
    line = 'at rcpt with sasl_username = "bob", recipient = "a@example.net"'

    ruleset_of(rules + f"expect notify {line} after 7 times\nexpect continue {line} after 7 times\n")
    for times in (6, 8):
        with pytest.raises(ConfigError, match="expected notify"):
            ruleset_of(rules + f"expect notify {line} after {times} times\n")


def test_what_a_rule_observes_is_told_where_an_expectation_fails() -> None:
    """So that nobody looks for the refusal that was only observed."""
    with pytest.raises(ConfigError) as caught:
        ruleset_of(at_rcpt("observe a: reject") + "expect reject at rcpt\n")

    assert "rcpt observe a: held" in str(caught.value)


MANY = """
set office = 192.0.2.0/24
at rcpt {
    crowd:  limit 3 distinct recipient/day per sasl_username
    places: limit 3 distinct client_address/hour per sasl_username else hold
    lands:  limit 3 distinct client_country/hour per sasl_username else discard
    nets:   limit 3 distinct client_network/hour per sasl_username else redirect "a@example.org"
    wide:   limit 2 distinct recipient_domain/hour per sasl_username else filter "smtp:x"
    sizes:  limit 3 distinct size/hour per sasl_username else reject
    sni:    limit 3 distinct attribute("new")/hour per sasl_username else warn "look"
}
"""
SOMEWHERE = Outside(country_of=lambda _: None)
BOB = 'at rcpt with sasl_username = "bob"'
FULL = f'{BOB}, recipient = "a@example.net", client_address = 192.0.2.1, client_country = "DE"'


@pytest.mark.parametrize(
    ("action", "line"),
    [
        ("continue", f'{BOB}, recipient = "a@example.net" after 9 times'),
        ("continue", f'{BOB}, recipient = "a@example.net" after 2 times with other recipient'),
        ("defer", f"{BOB} after 3 times with other recipient"),
        ("defer", f'{BOB}, recipient = "a@example.net" after 3 times with other recipient in 9 minutes'),
        ("continue", f'{BOB}, recipient = "a@example.net" after 3 times with other recipient in 2 days'),
        ("hold", f"{FULL} after 3 times with other client_address"),
        ("hold", f"{BOB}, client_address = 2001:db8::1 after 3 times with other client_address"),
        ("discard", f"{FULL} after 3 times with other client_country"),
        ("discard", f"{BOB} after 3 times with other client_country"),
        ("redirect", f'{BOB}, client_network = "192.0.2.0/24" after 3 times with other client_network'),
        ("filter", f'{BOB}, recipient_domain = "example.net" after 2 times with other recipient_domain'),
        ("reject", f"{BOB}, size = 7 after 3 times with other size"),
        ("warn", f'{BOB}, attribute("new") = "x" after 3 times with other attribute("new")'),
        ("continue", f"{FULL} after 50 times with other sasl_username, recipient, client_address"),
    ],
)
def test_what_is_other_is_so_in_each_message(action: str, line: str) -> None:
    """Limits on how many different ones there are, as a stolen login meets them."""
    rules_with(f"{MANY}expect {action} {line}\n", SOMEWHERE)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("after 3 times with another recipient", "unexpected `another`"),
        ("after 3 times with other recipients", "did you mean `recipient`"),
        ("after 3 times with other spf", "there is no other `spf` for each message"),
    ],
)
def test_what_has_no_others_is_told(line: str, problem: str) -> None:
    """A result has few values, and a fact must be one that the stage knows."""
    with pytest.raises(ConfigError, match=problem):
        rules_with(f"{MANY}expect continue at rcpt {line}\n", SOMEWHERE)


@pytest.mark.parametrize("address", ["a@example.net", '"a b"@example.net', "a@[192.0.2.1]", "postmaster"])
def test_another_address_is_one_that_differs(address: str) -> None:
    """It keeps the domain, whatever form it has."""
    written = address.replace(chr(34), chr(92) + chr(34))
    rules = "at rcpt { crowd: limit 3 distinct recipient/day per sasl_username }\n"
    ruleset_of(f'{rules}expect defer {BOB}, recipient = "{written}" after 3 times with other recipient\n')


WIDE = "at rcpt { wide: limit 3 distinct recipient_domain/day per sasl_username }\n"


@pytest.mark.parametrize(
    "given",
    [
        "",
        ', recipient = "a@example.net"',
        ', recipient_domain = "example.net"',
        ', recipient = "a@example.net", recipient_domain = "example.net"',
    ],
)
def test_another_domain_is_one_that_differs(given: str) -> None:
    """It is the address that has another domain, where one is given."""
    ruleset_of(f"{WIDE}expect defer {BOB}{given} after 3 times with other recipient_domain\n")


@pytest.mark.parametrize(
    "address", ["postmaster", "a@[192.0.2.1]", f"a@{'a.' * 120}example.net", f"a@{'a' * 63}.{'b.' * 92}net"]
)
def test_an_address_without_another_domain_is_told(address: str) -> None:
    """Or all messages would have none, and the limit would never be met."""
    given = f'{BOB}, recipient = "{address}" after 9 times with other recipient_domain'
    with pytest.raises(ConfigError, match="there is no other `recipient_domain` by what this line gives"):
        ruleset_of(f"{WIDE}expect continue {given}\n")


def test_another_client_is_in_another_network_as_networks_are_set() -> None:
    """ipv4_prefix and ipv6_prefix say which addresses are one customer's."""
    rules = "at rcpt { crowd: limit 3 distinct client_address/day per sasl_username }\n"
    rules += "at data { nets: limit 3 distinct client_network/day per sasl_username else hold }\n"
    for action, stage, address in (("defer", "rcpt", "2001:db8::1"), ("hold", "data", "192.0.2.1")):
        given = f'at {stage} with sasl_username = "bob", client_address = {address}'
        rules += f"expect {action} {given} after 3 times with other client_address\n"

    rules_with(rules, Outside(ipv4_prefix=24, ipv6_prefix=48))


def test_another_login_that_is_an_address_keeps_its_domain() -> None:
    """Rules know their logins by it."""
    rules = "at rcpt { a: limit 2 messages/day per client_port if sasl_username matches /@example.org$/ }\n"
    given = 'sasl_username = "bob@example.org", client_port = 7'
    ruleset_of(f"{rules}expect defer at rcpt with {given} after 2 times with other sasl_username\n")
