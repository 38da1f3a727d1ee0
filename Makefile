# Two commands on a fresh machine with Python 3.11, git and make: `make demo` and `make test`.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ARGS ?=
PORT ?= 3000
ARCTIC := $(VENV)/arctic/bin/python
WITH_ARCTIC = $$(test -x $(ARCTIC) && echo --arctic $(ARCTIC))
PRINT_HOME := from marketpipe_assets.config import dagster_home, load_config; print(dagster_home(load_config()))

.PHONY: help demo test lint types ui docs bench lock clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

demo: $(VENV)/.runtime ## materialize a month of synthetic bars through Dagster and show what exists
	@$(BIN)/marketpipe demo

test: $(VENV)/.dev ## run the tests; ARGS="-k lake" passes arguments to pytest
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## ruff
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy

ui: $(VENV)/.runtime ## the web UI on http://127.0.0.1:3000; PORT=3001 is another
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || \
		{ echo "error: expected port $(PORT) to be free, was taken: the web UI may be running already" >&2; exit 1; }
	@DAGSTER_HOME="$$($(BIN)/python -c "$(PRINT_HOME)")" \
		$(BIN)/dagster dev --host 127.0.0.1 --port $(PORT) --module-name marketpipe_assets.definitions

docs: $(VENV)/.dev ## the pages of docs/ into site/; nothing is fetched
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev $(VENV)/.bench ## each claim beside its reference; writes bench.json; ARGS="reads" measures one topic
	@$(BIN)/python -m marketpipe_assets_tests.bench $(WITH_ARCTIC) $(ARGS)

lock: ## pin again what pyproject.toml asks for; needs uv on the PATH
	@uv pip compile $(LOCK) --group build --output-file requirements.txt
	@uv pip compile $(LOCK) --group build --group dev --extra postgres --extra yahoo --extra celery --constraints requirements.txt \
		--output-file requirements-dev.txt
	@uv pip compile $(LOCK) --group build --extra postgres --extra yahoo --extra celery --constraints requirements-dev.txt \
		--output-file requirements-server.txt

LOCK := pyproject.toml --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-emit-find-links --no-header --quiet

clean: ## remove the environment and the caches; the lake and the runs stay
	rm -rf $(VENV) *.egg-info build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11 or later on the PATH, found none" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The stamps say that what the files name is installed, so that a second run installs nothing.
$(VENV)/.runtime: requirements.txt pyproject.toml | $(VENV)/.made
	@echo "Installing pinned packages into $(VENV) (a minute, once)"
	@$(PIP) install --require-hashes --requirement requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing pinned development packages into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@

# ArcticDB needs other pandas than ours: it has a place of its own, and where it cannot be had its figures are left out.
$(VENV)/.bench: pyproject.toml | $(VENV)/.made
	@$(PYTHON) -m venv $(VENV)/arctic
	@$(ARCTIC) -m pip --disable-pip-version-check --quiet install polars pyarrow \
		"$$(sed -n 's/^ *"\(arcticdb==[^"]*\)".*/\1/p' pyproject.toml)" \
		|| { echo "ArcticDB is left out: it could not be installed" >&2; rm -rf $(VENV)/arctic; }
	@touch $@
