# One command for each job. Each sets up what it needs inside the tree (.venv, target);
# what must be on the machine is checked first and named if it is missing.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench bench-full report hit-ratio screenshots chaos crash-sweep fuzz wheel wheels clean

# The interpreter that .venv is made from: python3 if it is new enough, else the newest found.
export PYTHON ?=
# A trace file for the demo; without one it generates a stream.
TRACE ?=
# How long the chaos run kills, and a seed to replay the plan of another run.
SECONDS ?= 120
SEED ?=
# The groups of benchmarks to run; without any, those that make the table.
GROUPS ?=
# Where the C library and the command go; DESTDIR goes before it, for those who make packages.
PREFIX ?= /usr/local
DESTDIR ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

demo: wheel ## four Python processes serve a request stream from one region; TRACE=path for your own
	@.ci/with-tools python examples/demo/demo.py $(if $(TRACE),"$(TRACE)")

test: ## every test of every part
	@.ci/with-tools python .ci/stages.py

check: ## the quick inner loop: format, lints, unit tests, Python tests
	@.ci/with-tools python .ci/stages.py quick

docs: wheel ## the documentation as a static site: target/site/index.html
	@.ci/with-tools python .ci/build_site.py

bench: wheel ## one table of ratios against their targets (about 25 minutes; GROUPS="get set" for some); CACHE_SHM_TRACES=directory adds hit ratios
	@.ci/with-tools python benches/bench.py $(GROUPS)

bench-full: wheel ## every benchmark at every size, rivals included (about 40 minutes)
	@.ci/with-tools python benches/bench.py --full

report: ## docs/benchmarks.md and its plots, from what was measured last
	@.ci/with-tools python benches/report.py

hit-ratio: ## docs/benchmarks/hit-ratio.md and its plot, of the streams in CACHE_SHM_TRACES=directory (about seven minutes)
	@.ci/with-tools python benches/python/hit_ratio.py

screenshots: wheel ## docs/images/top.svg from a real terminal, page-*.png from a headless browser, under load
	@.ci/with-tools python docs/screenshots.py
	@.ci/with-tools python docs/screenshots_page.py

chaos: ## kills processes at random while they use regions; SECONDS=n for how long, SEED=n for the same plan again
	@.ci/with-tools cargo test --locked --release --package cache-shm --test chaos -- \
		--seconds $(SECONDS) --cycles 10000 --samples 100 $(if $(SEED),--seed $(SEED))

crash-sweep: ## a death after every instruction of every operation, recovered and checked (about an hour)
	@.ci/with-tools cargo test --release --package cache-shm --test sweep -- --all

fuzz: ## throws bytes at every parser of what strangers send; SECONDS=n for each
	@.ci/with-tools python .ci/fuzz.py $(SECONDS)

wheel: ## the Python package, built from the tree and installed into .venv
	@.ci/with-tools python .ci/wheel.py

wheels: ## a tested wheel for every CPython from 3.10 to 3.13 that is installed, in target/wheels
	@.ci/with-tools python .ci/wheels.py

.PHONY: install uninstall
install: ## the C library, its header, its pkg-config file and the command, into PREFIX=/usr/local
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" .ci/install

uninstall: ## removes what install put into PREFIX
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" .ci/install --uninstall

clean: ## removes everything that was built
	rm -rf target .venv .pytest_cache .hypothesis
