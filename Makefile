# Everything that one does with a checkout. `make` alone lists it.

.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c
.PHONY: help demo test check format base-image bench leakbench clean

# uv comes from PATH where it is there, else from .tools, where scripts/bootstrap puts it.
export PATH := $(PATH):$(CURDIR)/.tools/bin
# The Python of this machine, never one that uv would download.
export UV_PYTHON_DOWNLOADS := never

# Without this the first import of MLflow takes two to three times as long.
SYNC := uv sync --quiet --locked --compile-bytecode
RUN := uv run --quiet --no-sync
BASE_IMAGE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/insitu/base

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ready-for-demo  ## set up what is missing and play the whole story; ARGS="--keep" and the like are handed on
	@$(RUN) python -m insitu.images.base --layout $(BASE_IMAGE) >/dev/null
	@$(RUN) insitu demo $(ARGS)

.PHONY: ready-for-demo
ready-for-demo:
	@scripts/bootstrap demo
	@$(SYNC) --inexact --no-dev --extra hub --extra agent

test:  ## set up what is missing, then check and run every test; ARGS="tests/unit -k gate" narrows it
	@scripts/bootstrap test
	@$(SYNC) --all-extras
	@$(MAKE) --no-print-directory --keep-going check-synced tested

# Two at a time: one process has all tests that share ports, engines and control groups (tests/conftest.py).
.PHONY: tested
tested:
ifdef ARGS
	@$(RUN) pytest $(ARGS)
else
	@$(RUN) pytest --numprocesses 2 --dist loadgroup
endif

check: synced  ## format, lint, types and direction of imports: under a minute
	@$(MAKE) --no-print-directory --keep-going check-synced

.PHONY: synced
synced:
	@scripts/bootstrap uv
	@$(SYNC) --all-extras

# Each of them runs, also when one before it has found something.
.PHONY: check-synced formatted linted typed directed
check-synced: formatted linted typed directed

formatted:
	@$(RUN) ruff format --check --quiet || { echo "hint: make format" >&2; exit 1; }

linted:
	@$(RUN) ruff check --quiet

typed:
	@$(RUN) pyright

directed:
	@$(RUN) pytest --quiet tests/architecture/test_direction.py

format: synced  ## rewrite the sources as the formatter wants them, and fix what the linter can
	@$(RUN) ruff check --quiet --fix --exit-zero
	@$(RUN) ruff format --quiet

base-image: ready-for-demo  ## build the root file system that jobs and models run on, from packages, or find it
	@$(RUN) python -m insitu.images.base --layout $(BASE_IMAGE) $(ARGS)

bench:  ## measure, and print ratios against references measured in the same run; not a test
	@scripts/bootstrap test
	@$(SYNC) --all-extras
	@exec $(RUN) python -m benchmarks $(ARGS)  # exec: who ends make ends this as well

leakbench:  ## try to leak in every way we know, and to release honest models; writes benchmarks/leaks/RESULTS.md
	@scripts/bootstrap test
	@$(SYNC) --all-extras
	@$(RUN) python -m benchmarks.leaks $(ARGS)

clean:  ## remove what was made in this folder; caches outside of it stay
	@rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis dist .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
