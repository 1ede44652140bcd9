"""Which fuzzers there are, and their corpora."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"

NAMES = tuple(sorted(path.stem for path in FOLDER.glob("[a-z]*.py") if "\ndef check(" in path.read_text()))


@dataclass(frozen=True, slots=True)
class Fuzzer:
    """One parser's: `check` raises where the invariant does not hold. `words` are worth trying."""

    name: str
    check: Callable[[bytes], None]
    words: Sequence[bytes]

    @property
    def corpus(self) -> list[Path]:
        """The inputs that are kept."""
        return sorted((CORPUS / self.name).iterdir())


def load_fuzzer(name: str) -> Fuzzer:
    """The fuzzer of this name, one of NAMES."""
    module = import_module(f"tests.fuzz.{name}")
    return Fuzzer(name, module.check, module.WORDS)
