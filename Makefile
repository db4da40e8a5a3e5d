# Everything there is to do with the project. Each target makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# How many simulated schedules, and the seed of the first.
N ?= 1000000
SEED ?= 0
# Where a run of the benchmarks is stored, what it is compared with, and how long it takes: smoke, quick or full.
RUN ?= .benchmarks/run.json
AGAINST ?= benchmarks/baseline.json
EFFORT ?= full
# What must be installed for the tests: "required" real peers fail the build if they cannot be had.
PEERS ?= wanted

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
SOURCES := pyproject.toml setup.py $(wildcard ext/echorig/*.pyx ext/echorig/*.pxd ext/echorig/*.h)
MODULES := $(patsubst ext/echorig/%.pyx,echorig.%,$(wildcard ext/echorig/*.pyx))

.PHONY: help demo test test-only simulate coverage lint types stubs docs wheel wheel-test bench bench-quick bench-smoke bench-compare \
    bench-baseline bench-gate-check report clean

help:
	@echo 'make demo        a whole session on real processes (ARGS="--rigs 8 --tcp 0 --rounds 100")'
	@echo 'make test        the tests (ARGS="-k tcp")'
	@echo 'make simulate    simulated rigs on a bad network (N=1000000 SEED=0; ARGS=--signed: with a key, and an attacker)'
	@echo 'make coverage    the tests, and which lines they reach, Cython included'
	@echo 'make bench       the benchmarks, five minutes, and the budgets; bench-quick: one minute; bench-smoke: each once'
	@echo 'make bench-compare   is it as fast as the baseline? (AGAINST=a stored run: compare RUN with that)'
	@echo 'make report      plots and tables of a stored run (RUN=.benchmarks/run.json)'
	@echo 'make lint types stubs docs wheel-test    the other gates'
	@echo 'PYTHON=python3.12 VENV=.venv-3.12 choose another interpreter'

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo 'echorig needs Python 3.10 or newer, and there is no $(PYTHON) here'; exit 1; }
	@$(PYTHON) .ci/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES)
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.built
	$(PIP) --group bench
	@$(PIP) --group peers || if [ '$(PEERS)' = required ]; then exit 1; else \
	    echo 'iblutil or ONE-api cannot be installed here: the tests with these real peers will be skipped'; fi
	@touch $@

$(VENV)/.test-only: $(VENV)/.built
	$(PIP) --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --group lint --group docs
	@touch $@

demo: $(VENV)/.built
	$(PY) -m echorig.demo $(ARGS)

test: $(VENV)/.test
	$(PY) -m pytest $(ARGS)

test-only: $(VENV)/.test-only
	$(PY) -m pytest $(ARGS)

# A failing seed is shown with its trace; `make simulate N=1 SEED=...` shows it again.
simulate: $(VENV)/.test-only
	PYTHONPATH=tests $(PY) -m simulation $(N) --seed $(SEED) $(ARGS)

lint: $(VENV)/.lint
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(VENV)/.lint
	$(PY) -m mypy --strict src

stubs: $(VENV)/.lint
	$(PY) -m mypy.stubtest --allowlist .ci/stubtest-allowlist.txt $(MODULES)

docs: $(VENV)/.lint
	$(PY) -m sphinx -W --keep-going -n -q -b html docs docs/_build/html

wheel: $(VENV)/.lint
	rm -rf dist
	$(PY) -m build --outdir dist

# The wheel is built from the sdist, and tested where the sources cannot be imported by accident.
wheel-test: wheel
	rm -rf $(VENV)-wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet --group test "$$(ls dist/*.whl)[demo]"
	$(VENV)-wheel/bin/python -m pytest -q --ignore tests/peers $(ARGS)

# asyncio reads into 256 KiB that the allocator may take from the system each time, or not: held constant here.
bench bench-quick bench-smoke: export MALLOC_TRIM_THRESHOLD_ = 1073741824
bench bench-quick bench-smoke: export MALLOC_MMAP_THRESHOLD_ = 1073741824

bench: $(VENV)/.test
	@mkdir -p $(dir $(RUN))
	ECHORIG_BENCH=$(EFFORT) $(PY) -m pytest benchmarks --benchmark-only --benchmark-json=$(RUN) --benchmark-columns=min,median,max,rounds -q $(ARGS)
	@$(PY) benchmarks/budgets.py $(RUN)

bench-quick: EFFORT = quick
bench-quick: RUN = .benchmarks/quick.json
bench-quick: bench

bench-smoke: $(VENV)/.test
	ECHORIG_BENCH=smoke $(PY) -m pytest benchmarks --benchmark-only --benchmark-columns=median --timeout 60 -q $(ARGS)

# Against the baseline the ratios are measured anew; against a stored run, those of RUN are taken.
bench-compare: $(VENV)/.test
ifeq ($(AGAINST),benchmarks/baseline.json)
	$(PY) benchmarks/gate.py $(ARGS)
else
	$(VENV)/bin/pytest-benchmark compare --columns=min,median,max --group-by=name $(AGAINST) $(RUN)
	$(PY) benchmarks/gate.py --run $(RUN) --against $(AGAINST) $(ARGS)
endif

bench-baseline: $(VENV)/.test
	$(PY) benchmarks/gate.py --record

# Three runs without a change must pass, one with a round trip that is 15 % longer must not.
bench-gate-check: $(VENV)/.test
	for i in 1 2 3; do $(PY) benchmarks/gate.py || exit 1; done
	! ECHORIG_BENCH_SLOWDOWN=0.15 $(PY) benchmarks/gate.py

report: $(VENV)/.test
	$(PY) benchmarks/report.py $(RUN)

# A traced build is slow and must not stay: it is made in an environment of its own.
coverage:
	$(MAKE) VENV=.venv-trace .venv-trace/.test
	.venv-trace/bin/python -m pip --disable-pip-version-check install --quiet coverage 'Cython>=3.1' setuptools
	ECHORIG_TRACE=1 .venv-trace/bin/python setup.py -q build_ext --inplace --force
	-.venv-trace/bin/python -m coverage run -m pytest -q $(ARGS)
	.venv-trace/bin/python -m coverage report --skip-covered
	rm -f src/echorig/*.so .venv*/.built

clean:
	rm -rf .venv* build dist docs/_build src/*.egg-info src/echorig/*.so ext/echorig/*.c
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
