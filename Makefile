# The workshop. `make help` lists the verbs; each installs what it needs, once, into .venv and .build.
# Another Python: make test PYTHON=python3.12 (the virtual environment is made anew when it changes).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: help demo test check bench fuzz clean FORCE

help:
	@echo "make demo    watch real mail go through a real Postfix with both daemons beside it"
	@echo "make test    all tests, among them those with the real Postfix and Redis (ARGS='-k name' for some,"
	@echo "             ARGS='-m \"not system\"' for those that start no server: in a minute or two)"
	@echo "make check   style, types, import directions, and that the docs tell every option"
	@echo "make bench   measure"
	@echo "make fuzz    look for inputs that break a parser (ARGS='received --seconds 60'; all by default)"
	@echo "make clean   forget what the others installed"

demo: .venv/installed .build/root/.complete
	@$(BIN)/python -m contrib.demo $(ARGS)

test: .venv/installed .build/root/.complete
	@$(BIN)/python -m pytest $(ARGS)

bench: .venv/installed .build/root/.complete
	@$(BIN)/python -m tests.bench $(ARGS)

fuzz: .venv/fuzz
	@$(BIN)/python -m tests.fuzz $(ARGS)

# Every check runs, also after one that fails, so that one run shows all there is to mend.
check: .venv/installed
	@failed=; \
	step() { echo "$$1"; shift; "$$@" || failed=yes; }; \
	step "ruff check"       $(BIN)/ruff check --quiet .; \
	step "ruff format"      $(BIN)/ruff format --quiet --diff .; \
	step "mypy"             $(BIN)/mypy --no-error-summary; \
	step "lint-imports"     $(BIN)/lint-imports --no-logo; \
	step "config reference" $(BIN)/mailreeve config reference --check; \
	[ -z "$$failed" ]

clean:
	rm -rf .venv .build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Which Python, as a file that changes only when the answer does.
.build/python: FORCE
	@mkdir -p .build
	@version=$$($(PYTHON) -c 'import sys; print(sys.base_prefix, sys.version)') \
	  || { echo "mailreeve: $(PYTHON) does not run: choose another by PYTHON=..." >&2; exit 1; }; \
	[ "$$version" = "$$(cat $@ 2>/dev/null)" ] || echo "$$version" > $@

.venv/made: .build/python
	@$(PYTHON) -m tests.lab.needs
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@touch $@

.venv/installed: pyproject.toml .venv/made
	@echo "Installing Python packages into .venv (once; about a minute)"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -e '.[dev]' 2>&1 | tee .build/pip.log \
	  | sed -un -e 's/^Collecting \([A-Za-z0-9_.-]*\).*/  \1/p' -e 's/^Building wheel for \([^ ]*\).*/  compiling \1/p' \
	  || { tail -n 40 .build/pip.log >&2; exit 1; }
	@touch $@

# atheris has wheels for CPython 3.11 to 3.13 on Linux, x86-64; without one this says so and nothing else is lost.
.venv/fuzz: .venv/installed
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --only-binary atheris -e '.[fuzz]' \
	  || { echo "mailreeve: atheris cannot be installed here: the fuzzers still run in make test" >&2; exit 1; }
	@touch $@

# 50 MB of Debian packages, unpacked here and installed nowhere.
.build/root/.complete: tests/lab/unpack.py
	@echo "Unpacking Postfix, Redis, Cyrus SASL and Sendmail into .build (once; the machine stays as it is)"
	@$(PYTHON) -m tests.lab.unpack
	@touch $@
