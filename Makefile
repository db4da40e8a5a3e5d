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
# What to fuzz, and for how many seconds each.
T ?= core codec framing exchange signing receive
SECONDS ?= 60
CLANG ?= clang
# What must be installed for the tests: "required" real peers fail the build if they cannot be had.
PEERS ?= wanted

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
SOURCES := pyproject.toml setup.py $(wildcard ext/echorig/*/*.p[yx][xd] ext/echorig/*/*.h)
MODULES := $(subst /,.,$(patsubst ext/%.pyx,%,$(wildcard ext/echorig/*/*.pyx)))

.PHONY: help demo test test-only simulate coverage lint types stubs docs wheel wheel-test bench bench-quick bench-smoke bench-compare \
    bench-baseline bench-gate-check report fuzz fuzz-keep sanitize sanitize-address sanitize-memcheck clean

help:
	@echo 'make demo        a whole session on real processes (ARGS="--rigs 8 --tcp 0 --rounds 100")'
	@echo 'make test        the tests (ARGS="-k tcp")'
	@echo 'make simulate    simulated rigs on a bad network (N=1000000 SEED=0; ARGS=--signed: with a key, and an attacker)'
	@echo 'make coverage    the tests, and which lines they reach, Cython included'
	@echo 'make fuzz        bytes chosen by coverage, against the targets in tests/fuzz (T=codec SECONDS=60)'
	@echo 'make sanitize    the tests under AddressSanitizer, and those of the compiled modules under valgrind'
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
	rm -f src/echorig/*/*.so .venv*/.built

# --- fuzzing: docs/fuzzing.md ---

FUZZED := $(addprefix .fuzz/,core codec framing exchange signing receive)
FUZZ_OPTIONS = -max_total_time=$(SECONDS) -max_len=2048 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=.fuzz/found-$(1)-
# What is new goes to the first folder; the others are read.
FUZZ_FOLDERS = .fuzz/$(1) $(wildcard tests/fuzz/corpus/$(1) tests/fuzz/found/$(1))
UNKNOWN_TARGETS = $(filter-out core codec framing exchange signing receive,$(T))

# atheris brings libFuzzer with AddressSanitizer; they come first, and see Python's own memory if it comes from malloc.
ATHERIS = ASAN_OPTIONS=detect_leaks=0,allocator_may_return_null=1,quarantine_size_mb=64 PYTHONMALLOC=malloc \
    PYTHONPATH=build/fuzz/lib:tests LD_PRELOAD=$$($(PY) -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so \
    $(PY) -m fuzz

.PHONY: $(FUZZED) clang-is-here $(addprefix fuzz-keep-,core codec framing exchange signing receive)

fuzz: $(if $(UNKNOWN_TARGETS),no-such-target,$(addprefix .fuzz/,$(T)))

# Put what is new, and worth it, into the corpus of the repository, and what adds nothing out of it.
fuzz-keep: $(if $(UNKNOWN_TARGETS),no-such-target,$(addprefix fuzz-keep-,$(T)))

.PHONY: no-such-target
no-such-target:
	@echo 'There is no target $(UNKNOWN_TARGETS) to fuzz; choose from core codec framing exchange signing receive'; exit 1

clang-is-here:
	@command -v $(CLANG) >/dev/null || { echo 'make fuzz needs clang with its sanitizers (on Debian: apt-get install clang),' \
	    'and there is no $(CLANG) here; CLANG=clang-14 names another'; exit 1; }

$(VENV)/.fuzz: $(VENV)/.test-only
	@$(PIP) --only-binary atheris --group fuzz || { echo 'atheris cannot be installed for this Python:' \
	    'it comes for Linux and some Pythons only; try PYTHON=python3.12 VENV=.venv-fuzz, or T=core, which needs clang alone'; exit 1; }
	@touch $@

build/fuzz/.built: $(VENV)/.fuzz $(SOURCES) $(wildcard src/echorig/*.py src/echorig/*/*.py) | clang-is-here
	ECHORIG_WATCH=fuzz CC=$(CLANG) $(PY) setup.py -q build --force --build-base build/fuzz --build-lib build/fuzz/lib
	@touch $@

build/fuzz/core: tests/fuzz/core.c $(wildcard ext/echorig/*/*.h) | clang-is-here
	@mkdir -p build/fuzz
	$(CLANG) -g -O1 -Wall -Wextra -Iext/echorig/wire -Iext/echorig/transports -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $< -o $@

.fuzz/core: build/fuzz/core
	@mkdir -p $@
	build/fuzz/core $(call FUZZ_OPTIONS,core) $(call FUZZ_FOLDERS,core)

$(filter-out .fuzz/core,$(FUZZED)): .fuzz/%: build/fuzz/.built
	@mkdir -p $@
	$(ATHERIS) $* $(call FUZZ_OPTIONS,$*) $(call FUZZ_FOLDERS,$*)

fuzz-keep-core: build/fuzz/core
	rm -rf .fuzz/merged && mkdir -p .fuzz/merged .fuzz/core
	build/fuzz/core -set_cover_merge=1 .fuzz/merged $(call FUZZ_FOLDERS,core)
	rm -rf tests/fuzz/corpus/core && mkdir -p tests/fuzz/corpus && mv .fuzz/merged tests/fuzz/corpus/core

$(addprefix fuzz-keep-,codec framing exchange signing receive): fuzz-keep-%: build/fuzz/.built
	rm -rf .fuzz/merged && mkdir -p .fuzz/merged .fuzz/$*
	$(ATHERIS) $* -set_cover_merge=1 .fuzz/merged $(call FUZZ_FOLDERS,$*)
	rm -rf tests/fuzz/corpus/$* && mkdir -p tests/fuzz/corpus && mv .fuzz/merged tests/fuzz/corpus/$*

# --- sanitizers ---

sanitize: sanitize-address sanitize-memcheck

# The runtime of the sanitizer must come first, and sees Python's own memory if it comes from malloc. What Python keeps
# to its end is no leak. Left out: the real peers, which are others' programs, and test_flood, which measures memory.
ADDRESS := ASAN_OPTIONS=detect_leaks=0,log_path=$(CURDIR)/build/sanitize/report \
    UBSAN_OPTIONS=print_stacktrace=1,log_path=$(CURDIR)/build/sanitize/report PYTHONMALLOC=malloc PYTHONPATH=build/sanitize/lib \
    LD_PRELOAD=$$($(CC) -print-file-name=libasan.so)

$(VENV)/.watch: $(VENV)/.test-only
	@$(PIP) 'Cython>=3.1' 'setuptools>=77'
	@touch $@

build/sanitize/.built: $(VENV)/.watch $(SOURCES) $(wildcard src/echorig/*.py src/echorig/*/*.py)
	@case $$($(CC) -print-file-name=libasan.so) in /*) ;; *) \
	    echo 'make sanitize needs gcc with libasan on Linux, and $(CC) has none; CC=gcc names another'; exit 1;; esac
	ECHORIG_WATCH=address,undefined CC=$(CC) $(PY) setup.py -q build --force --build-base build/sanitize --build-lib build/sanitize/lib
	@touch $@

sanitize-address: build/sanitize/.built
	@rm -f build/sanitize/report.*
	ECHORIG_SCHEDULES=200 $(ADDRESS) $(PY) -m pytest -q --timeout 300 --ignore tests/peers --ignore tests/test_flood.py $(ARGS) || { \
	    cat build/sanitize/report.* 2>/dev/null; exit 1; }
	@! ls build/sanitize/report.* 2>/dev/null

# Fifty times slower, so only where the compiled modules are tried themselves, with few examples of hypothesis; and
# without 50 clients at once, which are not all answered within the second that each of them waits.
MEMCHECK := valgrind --quiet --error-exitcode=9 --leak-check=no --suppressions=tests/fuzz/memcheck.supp --log-file=$(CURDIR)/build/memcheck/report.%p
MEMCHECKED := $(patsubst %,tests/test_%.py,codec tags framing exchange exchange_tags signing datagram receiving tcp forgery \
    receive_path fuzz_corpus)

build/memcheck/.built: $(VENV)/.watch $(SOURCES) $(wildcard src/echorig/*.py src/echorig/*/*.py)
	ECHORIG_WATCH=memcheck $(PY) setup.py -q build --force --build-base build/memcheck --build-lib build/memcheck/lib
	@touch $@

sanitize-memcheck: build/memcheck/.built
	@command -v valgrind >/dev/null || { echo 'make sanitize needs valgrind, and there is none here'; exit 1; }
	@rm -f build/memcheck/report.*
	PYTHONMALLOC=malloc PYTHONPATH=build/memcheck/lib:tests $(MEMCHECK) \
	    $(PY) -m pytest -q --timeout 1200 -p fuzz.fewer --deselect tests/test_tcp.py::test_50_clients_at_once \
	    $(MEMCHECKED) $(ARGS) || { cat build/memcheck/report.*; exit 1; }

clean:
	rm -rf .venv* .fuzz build dist docs/_build src/*.egg-info src/echorig/*/*.so ext/echorig/*/*.c
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
