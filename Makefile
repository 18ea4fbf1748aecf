# candlecast: `make demo` shows it, `make test` proves it. Both work in a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base-installed
DEV := $(VENV)/.dev-installed
DASHBOARD := src/candlecast/api/static/index.html
DASHBOARD_SOURCES := $(shell find dashboard -type f \
	-not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

# pip reads these; the second holds for the build backend too where pip knows it.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-skill soak clean

help:
	@echo "make demo    install, build the dashboard, forecast five stocks, serve the page"
	@echo "             (ARGS=--no-serve ends after the table)"
	@echo "make test    everything that is checked: lint, types, imports, tests but the slow ones"
	@echo "make setup   install and build only"
	@echo "make check   lint, types and imports only"
	@echo "make soak    slow tests, and those that take hours: verdicts on many seeds, many starts"
	@echo "             at once, kills"
	@echo "make bench   measure, and write docs/benchmarks.md"
	@echo "make bench-skill  forecast real markets out of sample, and write docs/skill.md"
	@echo "make clean   remove what was installed, built and cached (not ./var)"

setup: $(BASE) $(DASHBOARD)

demo: setup
	@$(BIN)/candlecast demo $(ARGS)

test: check $(DASHBOARD)
	$(BIN)/pytest -n 2 -m "not live and not slow" $(ARGS)

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(DEV)
	$(BIN)/pytest -n 2 -m slow $(ARGS)
	$(BIN)/pytest -s tests/soak/starts.py tests/soak/verdicts.py \
		tests/soak/ingest_kills.py tests/soak/stream_kills.py tests/soak/selections.py $(ARGS)

bench: $(DEV)
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-skill: $(DEV)
	$(BIN)/python benchmarks/skill.py $(ARGS)

clean:
	rm -rf $(VENV) build dist dashboard/node_modules dashboard/dist src/candlecast/api/static \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "candlecast needs Python 3.11 or newer; name one with make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "python3 -m venv failed; on Debian install the package python3-venv"; exit 1; }

# $(BIN)/python is a prerequisite by existence only: its time stamp is the interpreter's.
$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing candlecast into $(VENV) (one to two minutes) ..."
	@$(BIN)/pip install --quiet --no-compile --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing candlecast and what its tests need into $(VENV) (two minutes) ..."
	@$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	@touch $(BASE) $@

$(DASHBOARD): $(DASHBOARD_SOURCES) scripts/build_dashboard.sh | $(BIN)/python
	@scripts/build_dashboard.sh $(VENV)
	@touch $@
