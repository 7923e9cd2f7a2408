# Two commands do everything: `make demo` and `make test`. Both make the virtual environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8484
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test install check bench torture browser format lock readme

install: $(VENV)/.run
demo: $(VENV)/.sandbox
	$(BIN)/python -m sandbox --port $(PORT) $(DEMO)
test: $(VENV)/.test browser check
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(TESTS)
check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
readme: $(VENV)/.test
	$(BIN)/python -m tests.readme
bench: $(VENV)/.test
	@test -n "$(NAME)" || { echo "make bench NAME=...: which one? See tests/benchmarks." >&2; exit 2; }
	@test -f tests/benchmarks/$(NAME).py || { echo "make bench NAME=$(NAME): there is no such benchmark yet." >&2; exit 2; }
	$(BIN)/python -m tests.benchmarks.$(NAME)
torture: $(VENV)/.test
	@test -f tests/torture.py || { echo "make torture: not there yet." >&2; exit 2; }
	$(BIN)/python -m tests.torture --trials $(or $(TRIALS),300)

# The browser tests drive Debian's Chromium; where apt may not install it, say what to do.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-noto-color-emoji >/dev/null; } || \
	{ echo "The browser tests need Chromium: sudo apt-get install chromium (or the browser of your system), then make test again." >&2; exit 1; }

# One stamp a set: run, then sandbox on top, then test on top. --require-hashes refuses anything the lock does not name.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Refine needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null; } || \
	{ echo "Debian keeps a part of Python apart: sudo apt-get install python3-venv, then try again." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
$(VENV)/.run $(VENV)/.sandbox $(VENV)/.test: $(VENV)/.%: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q --require-hashes -r requirements/$*.txt
	$(BIN)/python -c 'import hatchling, editables' 2>/dev/null || $(BIN)/pip install -q --require-hashes -r requirements/build.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@
lock: $(VENV)/bin/python
	$(BIN)/pip install -q uv
	for s in run sandbox test build bench; do $(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url \
	  --python-version 3.11 --universal requirements/$$s.in -o requirements/$$s.txt; done
