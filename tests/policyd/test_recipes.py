"""contrib/recipes: each file is right, does what its page says, and stands on the page as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import Ruleset, load_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import IPAddress, Transaction
from mailreeve_policyd.verdict import Action
from tests.policyd.live_names import Server
from tests.policyd.rules_text import MIDNIGHT, SPLIT, moment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "contrib" / "recipes"
PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = sorted(FOLDER.glob("*.rules"))
FEWEST_EXPECTS = 3
ASKS = 13  # what-admins-ask, A and B


def country_of(address: IPAddress | None) -> str | None:
    """A country for each third octet: what a test needs of a MaxMind file."""
    return None if address is None else {"0": "DE", "1": "FR", "2": "NL"}.get(str(address).split(".")[2])


OUTSIDE = Outside(live=Server(), country_of=country_of, asn_of=lambda _: None)


def load(name: str) -> Ruleset:
    """A recipe, its expect lines run."""
    return load_ruleset(FOLDER / f"{name}.rules", SPLIT, outside=OUTSIDE)


def policy_of(name: str, door: Door = Door.POLICY) -> Policy:
    """A recipe at work, with nothing counted yet and a clock that stands still."""
    return Policy(load(name), MemoryStore(lambda: MIDNIGHT), door)


def asked(number: int, **given: str) -> Transaction:
    """The first RCPT of the message with this number, by ann unless another login is given."""
    return moment(Stage.RCPT, f"1a.{number}.0", **{"login": "ann@example.org", **given})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_is_right_and_leaves_nothing_to_note(path: Path) -> None:
    """Its expect lines are fulfilled, some there are, and `rules check` has no advice."""
    ruleset = load(path.stem)

    assert ruleset.notes == ()
    assert len(re.findall(r"^expect ", path.read_text(), re.MULTILINE)) >= FEWEST_EXPECTS


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_page_has_each_recipe_word_for_word(path: Path) -> None:
    """Whoever pastes from the page has what is tested."""
    quoted = "".join(f"    {line}\n" if line else "\n" for line in path.read_text().splitlines())

    assert quoted in PAGE
    assert f"contrib/recipes/{path.name}" in PAGE


def test_each_file_that_a_recipe_names_is_there_and_each_there_is_named() -> None:
    """A recipe is copied together with its lists."""
    named = {name for path in RECIPES for name in re.findall(r'= file +"([^"]+)"', path.read_text())}

    assert named == {path.name for path in FOLDER.iterdir()} - {path.name for path in RECIPES}


def test_the_page_answers_each_ask() -> None:
    """Thirteen sections, numbered, none left out."""
    assert re.findall(r"^## (\d+)\. ", PAGE, re.MULTILINE) == [str(number + 1) for number in range(ASKS)]


def test_the_301st_stranger_of_a_day_is_held() -> None:
    """stolen-login: mail to so many different people waits; to one of those before, too, but not for ever."""
    clock = [MIDNIGHT]
    policy = Policy(load("stolen-login"), MemoryStore(lambda: clock[0]), Door.POLICY)
    for number in range(300):
        clock[0] += 2.0
        assert policy.decide(asked(number, recipient=f"r{number}@example.net")).action is Action.CONTINUE

    assert policy.decide(asked(300, recipient="one-more@example.net")).rule == "login-crowd"
    assert policy.decide(asked(301, recipient="r299@example.net")).action is Action.CONTINUE


def test_the_sixth_address_of_a_login_is_held() -> None:
    """many-places: addresses by their number, whatever they send; another login is not concerned."""
    policy = policy_of("many-places")
    for number in range(5):
        assert policy.decide(asked(number, client=f"192.0.0.{number}")).action is Action.CONTINUE

    sixth = policy.decide(asked(5, client="192.0.0.5"))
    assert (sixth.action, sixth.rule) == (Action.HOLD, "places")
    assert policy.decide(asked(6, client="192.0.0.5", login="bob@example.org")).action is Action.CONTINUE
    assert policy.decide(asked(7, client="192.0.0.1")).action is Action.CONTINUE


def test_the_third_country_of_a_day_is_held() -> None:
    """many-places: two are a journey."""
    policy = policy_of("many-places")
    answers = [policy.decide(asked(number, client=f"192.0.{number}.7")) for number in range(3)]

    assert [answer.rule for answer in answers] == [None, None, "countries"]


def test_a_login_is_told_in_its_language() -> None:
    """warn-first: who is in the table reads German, everybody else English."""
    policy = policy_of("warn-first")
    for login, words in (("hans@example.org", "Tageslimit erreicht"), ("ann@example.org", "Daily limit")):
        for number in range(1000):
            policy.decide(asked(number, login=login))
        assert words in str(policy.decide(asked(1000, login=login)).reply)


def test_a_client_that_forges_stops_only_itself() -> None:
    """forged-keys: after all that a stranger may send as ann, ann's mail from her own server goes on."""
    policy = policy_of("forged-keys", Door.MILTER)

    def by(client: str, number: int) -> Action:
        message = moment(
            Stage.END_OF_MESSAGE,
            f"1a.{number}.0",
            client=client,
            sender="ann@example.net",
            queue_id=str(number),
        )
        return policy.decide(replace(message, recipient_count=1)).action

    assert [by("203.0.113.9", number) for number in range(51)][-1] is Action.DEFER
    assert by("192.0.2.25", 52) is Action.CONTINUE
