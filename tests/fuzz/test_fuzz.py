"""Every fuzzer over its corpus, and over what hypothesis makes of that; `make fuzz` does it for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzzers import CORPUS, NAMES, Fuzzer, load_fuzzer

EXAMPLES = {"rules_file": 40, "milter_exchange": 60, "set_and_table_files": 15}
"""Where the parser takes its time; the others get 80."""

MAX_CORPUS_OCTETS = 16_384
"""Of one file: a corpus is read in every run."""

FUZZERS = [load_fuzzer(name) for name in NAMES]
FILES = [(fuzzer, path) for fuzzer in FUZZERS for path in fuzzer.corpus]


@pytest.mark.parametrize(
    ("fuzzer", "path"), FILES, ids=[f"{fuzzer.name}-{path.name}" for fuzzer, path in FILES]
)
def test_the_invariant_holds_for_the_corpus(fuzzer: Fuzzer, path: Path) -> None:
    """Typical inputs, and those that once broke something."""
    octets = path.read_bytes()

    assert len(octets) <= MAX_CORPUS_OCTETS
    fuzzer.check(octets)


@pytest.mark.parametrize("fuzzer", FUZZERS, ids=NAMES)
def test_the_invariant_holds_for_what_is_made_of_it(fuzzer: Fuzzer) -> None:
    """Inputs cut, joined and spoiled, and the words of the grammar thrown together."""

    @settings(max_examples=EXAMPLES.get(fuzzer.name, 80), deadline=None)
    @given(_inputs(fuzzer))
    def hold(data: bytes) -> None:
        fuzzer.check(data)

    hold()


def test_every_corpus_has_a_fuzzer() -> None:
    """Nothing is kept that nobody reads."""
    assert sorted(path.name for path in CORPUS.iterdir()) == list(NAMES)


def _inputs(fuzzer: Fuzzer) -> st.SearchStrategy[bytes]:
    kept = st.sampled_from([path.read_bytes() for path in fuzzer.corpus])
    pieces = st.one_of(st.sampled_from(fuzzer.words), st.binary(max_size=8))
    places = st.integers(0, 4096)
    spoiled = st.builds(_spoil, kept, st.lists(st.tuples(places, places, pieces), max_size=4))
    return st.one_of(spoiled, st.lists(pieces, max_size=12).map(b"".join))


def _spoil(octets: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Each edit puts a piece in the place of some octets, up to 15 of them."""
    for place, length, piece in edits:
        at = place % (len(octets) + 1)
        octets = octets[:at] + piece + octets[at + length % 16 :]
    return octets
