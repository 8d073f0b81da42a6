# Everything here needs only make, a POSIX shell and Python 3.11 or newer.
# Environments are made on first use and made again when what they are made from changes.

# Many tests start Python anew; without its caches each of them would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint types smoke bench bench-full conformance conformance-short check check-all \
    peers clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The first interpreter that runs: python3.X on PATH, else one that pyenv holds. Existing is not
# enough, for pyenv puts a python3.X on PATH that refuses to run when 3.X is not a selected version.
find-python = $(shell \
    for version in $(1); do \
        for python in "python$$version" "$$(pyenv root 2>/dev/null)"/versions/"$$version".*/bin/python; do \
            "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
                && command -v "$$python" && exit; \
        done; \
    done)

PYTHON ?= $(call find-python,3.11 3.12 3.13 3)
PYTHON311 ?= $(call find-python,3.11)
PYTHON312 ?= $(call find-python,3.12)
PYTHON313 ?= $(call find-python,3.13)
VERSIONS := 3.11 3.12 3.13

VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := trio_mcp tests benchmarks docs/examples docs/pictures

# Other MCP implementations live in environments of their own, so that nothing they need can hide
# something trio_mcp lacks. A further peer is a requirements file and a word here; one for Node.js
# is a directory with a package.json. Where there is no Node.js, it is left out with a message.
PEERS := mcp1 mcp2 fastmcp4
NODE_PEERS := ts1 ts2
PEERS_READY := $(PEERS:%=.envs/%/.ready) $(NODE_PEERS:%=.envs/%/.node-ready)
# All but the older TypeScript SDK take part in the benchmarks.
BENCH_PEERS_READY := $(filter-out .envs/ts1/%,$(PEERS_READY))

# flake8-async leaves ASYNC9 off unless told what else to leave off. We want three of it: no async
# generator reaches a caller (900), and something can cancel every scope and every endless loop (912,
# 913). 910 and 911 look for checkpoints and do not see those in a channel's exceptions, 114 asks for
# a list of function names. Tests have tools that are async without awaiting (124) and deadlines around
# what may be done already (912).
ASYNC_OFF := ASYNC114,ASYNC910,ASYNC911
ASYNC_OFF_TESTS := $(ASYNC_OFF),ASYNC124,ASYNC912

help:
	@echo "make demo         see progress arrive (needs nothing but Python)"
	@echo "make test         the tests, with the peers that they talk to"
	@echo "make lint         ruff and flake8-async"
	@echo "make types        mypy, strict"
	@echo "make bench        notifications, calls and tasks beside other implementations, in short"
	@echo "make bench-full   the same in full, with a report and plots"
	@echo "make conformance  the official conformance suite"
	@echo "make check        all that CI runs"
	@echo "make check-all    the same on Python $(VERSIONS), the full benchmark, and the conformance suite"

demo: $(VENV)/.demo
	$(BIN)/trio-mcp demo

# The tests marked slow start a server and a command each; `make check-all` runs them too.
MARKS := -m "not slow"

test: $(VENV)/.dev $(PEERS_READY)
	$(BIN)/pytest -n auto --dist worksteal $(MARKS)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/flake8-async --disable $(ASYNC_OFF) $$(find trio_mcp -name '*.py')
	$(BIN)/flake8-async --disable $(ASYNC_OFF_TESTS) $$(find $(filter-out trio_mcp,$(SOURCES)) -name '*.py')

types: $(VENV)/.dev
	$(BIN)/mypy

smoke: $(VENV)/.dev $(BENCH_PEERS_READY)
	$(BIN)/python benchmarks/run.py --quick

# The short set takes less than three minutes on two cores, all of it about half an hour. Say
# REPORT=docs/benchmarks to put the report where the documentation shows it.
REPORT ?= build/bench

bench: $(VENV)/.dev $(BENCH_PEERS_READY)
	$(BIN)/python benchmarks/run.py --lines build/bench.jsonl

bench-full: $(VENV)/.bench $(BENCH_PEERS_READY)
	$(BIN)/python benchmarks/run.py --set full --lines build/bench-full.jsonl
	$(BIN)/python benchmarks/write_report.py build/bench-full.jsonl --out $(REPORT)

# Where there is no npm, the suite is left out with a message.
CONFORMANCE := .envs/conformance
RUN_CONFORMANCE := tests/conformance/run.py --suite $(CONFORMANCE)

conformance: $(VENV)/.dev $(CONFORMANCE)/.node-ready
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE)

conformance-short: $(VENV)/.dev $(CONFORMANCE)/.node-ready
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE) --short

check: lint types test smoke conformance-short

check-all: $(VERSIONS:%=check-%)
	$(MAKE) conformance PYTHON="$(PYTHON311)" VENV=.venv-3.11
	$(MAKE) bench-full PYTHON="$(PYTHON311)" VENV=.venv-3.11

check-3.%:
	$(MAKE) check PYTHON="$(PYTHON3$*)" VENV=.venv-3.$* MARKS=

peers: $(PEERS_READY)

clean:
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) .envs

define make-environment
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found: say make PYTHON=..." >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(@D)
endef

$(VENV)/pyvenv.cfg:
	$(make-environment)

$(VENV)/.demo: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/pip install -q -e '.[cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/pip install -q -e '.[test,lint]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install -q -e '.[bench]'
	@touch $@

.envs/%/.ready: tests/peers/requirements-%.txt
	$(make-environment)
	$(@D)/bin/pip install -q -r $<
	@touch $@

define install-node-modules
	@if ! command -v npm >/dev/null; then \
	    echo "npm was not found: what needs $(@D) will be left out" >&2; \
	else \
	    mkdir -p $(@D) && cp $^ $(@D) && npm ci --prefix $(@D) --no-audit --no-fund --loglevel error \
	        && touch $@; \
	fi
endef

.envs/%/.node-ready: tests/peers/%/package.json tests/peers/%/package-lock.json
	$(install-node-modules)

$(CONFORMANCE)/.node-ready: tests/conformance/package.json tests/conformance/package-lock.json
	$(install-node-modules)
