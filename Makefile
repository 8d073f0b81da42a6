# Everything here needs only make, a POSIX shell and Python 3.11 or newer.
# Environments are made on first use and made again when what they are made from changes.

# Many tests start Python anew; without its caches each of them would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help ready demo test test-slow lint ruff-check ruff-format flake8-async types docs docs-check smoke bench \
    bench-full idle conformance conformance-short check check-all hooks peers clean

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
PYTHON314 ?= $(call find-python,3.14)
VERSIONS := 3.11 3.12 3.13
# These are tested, too, if there is an interpreter.
NEWER_VERSIONS := 3.14

VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := trio_mcp tests benchmarks docs/examples docs/pictures

# Other MCP implementations live in environments of their own, so that nothing they need can hide
# something trio_mcp lacks. A further peer is a requirements file and a word here; one for Node.js
# is a directory with a package.json. Where there is no Node.js, it is left out with a message.
# FastMCP 4.1 is the last whose package of tasks can be installed; all else is tested with 4.2.
# One of them is no implementation of MCP: valkey has the server with which the tests run a task store.
PEERS := mcp1 mcp2 fastmcp4 fastmcp42 valkey
NODE_PEERS := ts1 ts2
# And one is a queue of tasks, which takes part in the benchmarks only.
BENCH_PEERS := streaq
# The conformance suite has the published schemas, with which the tests validate messages.
CONFORMANCE := .envs/conformance
PEERS_READY := $(PEERS:%=.envs/%/.ready) $(NODE_PEERS:%=.envs/%/.node-ready) $(CONFORMANCE)/.node-ready
# The older TypeScript SDK, the suite, and FastMCP without its tasks take no part in the benchmarks.
BENCH_PEERS_READY := $(filter-out .envs/ts1/% .envs/fastmcp42/% $(CONFORMANCE)/%,$(PEERS_READY)) \
    $(BENCH_PEERS:%=.envs/%/.ready)

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
	@echo "make types        mypy, strict, and what mypy and pyright find in programs that use the package"
	@echo "make hooks        let git run lint and types before each commit (pre-commit, all of it local)"
	@echo "make docs         draw the pictures of the documentation anew"
	@echo "make docs-check   run the code in the documentation, follow its links"
	@echo "make bench        notifications, calls and tasks beside other implementations, in short"
	@echo "make bench-full   the same in full, with a report and plots"
	@echo "make idle         what a server with each task store costs that has nothing to do, in a minute"
	@echo "make conformance  the official conformance suite"
	@echo "make check        all that CI runs"
	@echo "make check-all    the tests on Python $(VERSIONS) (and $(NEWER_VERSIONS)), and once all the rest: an hour"

demo: $(VENV)/.demo
	$(BIN)/trio-mcp demo

# The tests marked slow start a server and a command each; `make check-all` runs them too.
MARKS := not slow

test: $(VENV)/.dev $(PEERS_READY)
	$(BIN)/pytest -n auto --dist worksteal -m "$(MARKS)"

test-slow: .envs/inspector/.node-ready
	$(MAKE) test MARKS=slow

lint: ruff-check ruff-format flake8-async

ruff-check: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)

ruff-format: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)

# This takes a quarter of a second for a file, so there are two at it. The hook names the files of a commit.
FILES = $(shell find $(SOURCES) -name '*.py')
check-async = @printf '%s\n' $(2) | xargs -r -n 20 -P 2 $(BIN)/flake8-async --disable $(1)

flake8-async: $(VENV)/.dev
	$(call check-async,$(ASYNC_OFF),$(filter trio_mcp/%,$(FILES)))
	$(call check-async,$(ASYNC_OFF_TESTS),$(filter-out trio_mcp/%,$(FILES)))

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/pytest -q tests/typing

hooks: $(VENV)/.dev
	$(BIN)/pre-commit install

# The documentation is Markdown, to be read as it is; only its pictures are made.
docs: $(VENV)/.dev
	$(BIN)/python docs/pictures/stages.py
	$(BIN)/python docs/pictures/bars.py

docs-check: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist worksteal tests/docs

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

# A minute of real time, on a machine that does nothing else.
idle: $(VENV)/.dev
	$(BIN)/python benchmarks/idle_stores.py

# Where there is no npm, the suite is left out with a message.
RUN_CONFORMANCE := tests/conformance/run.py --suite $(CONFORMANCE)

conformance: $(VENV)/.dev $(CONFORMANCE)/.node-ready
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE)
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE) --mounted
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE) --proxied

# Without the authorization of the client, whose scenarios are many: half a minute instead of two.
conformance-short: $(VENV)/.dev $(CONFORMANCE)/.node-ready
	@test ! -e $(CONFORMANCE)/.node-ready || $(BIN)/python $(RUN_CONFORMANCE) --short

check: lint types test smoke conformance-short

# One run shows all that fails: each part runs whatever became of those before. The tests run on every version,
# the rest on the oldest. All of it takes about an hour on two cores.
interpreter = $(PYTHON$(subst .,,$(1)))
on = PYTHON=$(call interpreter,$(1)) VENV=.venv-$(1)
OLDEST := $(firstword $(VERSIONS))
MISSING = $(foreach version,$(NEWER_VERSIONS),$(if $(call interpreter,$(version)),,$(version)))
TESTED = $(VERSIONS) $(filter-out $(MISSING),$(NEWER_VERSIONS))

check-all:
	@MAKE="$(MAKE)" .ci/run_parts \
	    $(foreach part,lint types,"$(part): $(part) $(call on,$(OLDEST))") \
	    $(foreach version,$(TESTED),"tests on Python $(version): test $(call on,$(version))") \
	    $(foreach version,$(MISSING),"tests on Python $(version), which was not found:") \
	    $(foreach part,test-slow smoke conformance bench-full,"$(part): $(part) $(call on,$(OLDEST))")

peers: $(PEERS_READY) $(BENCH_PEERS_READY)

# The environments wait for the network most of the time, so they are made side by side.
ready:
	@printf '%s\n' $(VENV)/.dev $(sort $(PEERS_READY) $(BENCH_PEERS_READY)) | xargs -n 1 -P 4 $(MAKE) --no-print-directory

clean:
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) $(NEWER_VERSIONS:%=.venv-%) .envs

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
