# Every target sets up .venv first, once. ARGS is handed on: make demo ARGS="rl.max_lag=2", make test ARGS="-k budget".
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check clean

BIN := .venv/bin
READY := .venv/.ready
LOG := .venv/setup.log
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX := https://download.pytorch.org/whl/cpu
ARGS ?=

help:
	@echo 'make demo      the whole pipeline at tiny size on the CPU: data, SFT, asynchronous RL, evaluation, report'
	echo 'make test      the tests without whole runs, about ten minutes on two cores'
	echo 'make test-all  all tests, as CI runs them'
	echo 'make check     linter, formatter, types, import order'
	echo 'make setup     only the environment in .venv (the other targets do this by themselves)'
	echo 'make clean     remove .venv, caches and build output; runs/ stays'

setup: $(READY)
	@:

# The stamp is newer than the locks exactly when the environment was built from them.
$(READY): requirements/cpu.txt requirements/torch-cpu.txt pyproject.toml
	@say() { printf '%-78s %s\n' "$$1" "$${2:-}"; }
	stop() { echo "$$1" >&2; exit 1; }
	fail() { grep -i '^ *error' $(LOG) | tail -n 5 >&2 || true; stop "setup failed: $$1 (everything pip said: $(LOG))"; }
	[ "$$(uname -sm)" = "Linux x86_64" ] \
	  || stop "the locked environment is for Linux x86-64, this is $$(uname -sm): use such a machine or a container"
	python=$$(command -v python3.11 || command -v python3.12 || true)
	[ -n "$$python" ] || stop "no python3.11 or python3.12 on PATH: install one of them, with its venv module"
	start=$$SECONDS
	say "setting up .venv with $$python" "2 to 5 min, once"
	$(BIN)/python -c '' 2> /dev/null || "$$python" -m venv --clear .venv \
	  || stop "$$python cannot make a virtual environment: install its venv module (on Debian: python3-venv)"
	: > $(LOG)
	say "  torch (CPU build)"
	$(PIP) install --no-deps -r requirements/torch-cpu.txt >> $(LOG) 2>&1 \
	  || $(PIP) install --no-deps --index-url $(TORCH_INDEX) -r requirements/torch-cpu.txt >> $(LOG) 2>&1 \
	  || fail "torch did not install"
	say "  $$(grep -c == requirements/cpu.txt) locked packages"
	$(PIP) install --no-deps -r requirements/cpu.txt >> $(LOG) 2>&1 || fail "the locked packages did not install"
	$(PIP) install --no-deps --no-build-isolation -e . >> $(LOG) 2>&1 || fail "the project did not install"
	touch $(READY)
	took=$$((SECONDS - start))
	say "environment ready (.venv)" "$$((took / 60)) min $$((took % 60)) s, once"

demo: $(READY)
	@$(BIN)/python recipes/bard_tiny.py $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -m 'not slow' $(ARGS)

test-all: $(READY)
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
	echo 'removed .venv, caches and build output; runs/ was left as it is'
