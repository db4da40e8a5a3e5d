# The commands of the project. Each target creates the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# The number of simulated schedules, and the seed of the first.
N ?= 1000000
SEED ?= 0
# The file of a run of the benchmarks, and its effort: smoke, quick or full.
RUN ?= .benchmarks/run.json
EFFORT ?= full
# "required": the build fails if the real peers cannot be installed.
PEERS ?= wanted

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
PYTEST := $(PY) -m pytest -p no:benchmark -n 2 --dist worksteal
SOURCES := pyproject.toml setup.py $(wildcard ext/echorig/*/*.p[yx][xd] ext/echorig/*/*.h)
MODULES := $(subst /,.,$(patsubst ext/%.pyx,%,$(wildcard ext/echorig/*/*.pyx)))

.PHONY: help demo test test-all simulate lint types stubs docs bench bench-compare clean

help:
	@echo 'make demo        a session with real processes (ARGS="--rigs 8 --tcp 0 --rounds 100")'
	@echo 'make test        the fast tests, twelve minutes (ARGS="-k tcp"); test-all: also slow tests and real peers'
	@echo 'make simulate    simulated rigs on a bad network (N=1000000 SEED=0; ARGS=--signed: with a key, and an attacker)'
	@echo 'make bench       the benchmarks and the budgets (EFFORT=quick: one minute; smoke: each once)'
	@echo 'make bench-compare   compare the speed with the baseline (ARGS=--record: record it)'
	@echo 'make lint types stubs docs    the other gates; for fuzzing and sanitizers see tests/fuzz/Makefile'
	@echo 'PYTHON=python3.12 VENV=.venv-3.12 select another interpreter'

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo 'echorig needs Python 3.10 or newer, and there is no $(PYTHON) here'; exit 1; }
	@$(PYTHON) .ci/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES)
	$(PIP) --editable '.[cli]'
	@touch $@

$(VENV)/.test: $(VENV)/.built
	$(PIP) --group test
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	@$(PIP) --group bench --group peers || if [ '$(PEERS)' = required ]; then exit 1; else \
	    echo 'iblutil or ONE-api cannot be installed here: the tests with these real peers will be skipped'; fi
	@touch $@

$(VENV)/.lint: $(VENV)/.peers
	$(PIP) --group lint --group docs
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --version || if [ '$(PEERS)' = required ]; then exit 1; else \
	    echo 'pyright does not run here: its tests will be skipped'; fi
	@touch $@

demo: $(VENV)/.built
	$(PY) -m echorig.demo $(ARGS)

test: $(VENV)/.test
	$(PYTEST) -m 'not slow and not peers' $(ARGS)
test-all: $(VENV)/.peers
	$(PYTEST) $(ARGS)

# The trace of a failing seed is printed; `make simulate N=1 SEED=...` repeats it.
simulate: $(VENV)/.test
	PYTHONPATH=tests:tests/support $(PY) -m simulation $(N) --seed $(SEED) $(ARGS)

lint: $(VENV)/.lint
	$(PY) -m ruff check && $(PY) -m ruff format --check
types: $(VENV)/.lint
	$(PY) -m mypy --strict src
	$(PY) -m mypy --strict --platform win32 src
stubs: $(VENV)/.lint
	$(PY) -m mypy.stubtest --allowlist .ci/stubtest-allowlist.txt $(MODULES)
docs: $(VENV)/.lint
	$(PY) -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	$(PY) .ci/check_site.py docs/_build/html

# See ALLOCATOR in benchmarks/support/processes.py.
bench: export MALLOC_TRIM_THRESHOLD_ = 1073741824
bench: export MALLOC_MMAP_THRESHOLD_ = 1073741824
bench: $(VENV)/.peers
	@mkdir -p $(dir $(RUN))
	ECHORIG_BENCH=$(EFFORT) $(PY) -m pytest benchmarks --benchmark-only --benchmark-json=$(RUN) --benchmark-columns=min,median,max,rounds -q $(ARGS)
	@$(PY) -m benchmarks.gate.budgets $(RUN)

bench-compare: $(VENV)/.peers
	$(PY) -m benchmarks.gate.gate $(ARGS)

clean:
	rm -rf .venv* .fuzz build dist docs/_build src/*.egg-info src/echorig/*/*.so ext/echorig/*/*.c
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
