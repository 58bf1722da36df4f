# make demo    two nights on real data, in Airflow, kept in ./demo
# make test    the whole test suite; tests of deliveries need the programs of postgresql and redis-server, or are skipped
# make test-airflow   a week of nights on a real Airflow with PostgreSQL
# make cases   small inputs that broke other projects, each with its expected result
# make check   everything that a change must pass
# make faults  steps that are killed, starved and damaged in 1,000 ways, see docs/reliability.md
# make mutants mutation testing of the modules that decide things, see docs/development.md
# make picture the catalogue of ROOT (./demo) on the Poincare disk, into docs/images
# make gpu-check PYTHON=... DATA=...   what only a GPU can show; from a bare checkout, without .venv
# make clean   remove what these commands made
#
# make bench-accuracy DATA=beauty   accuracy tables, see docs/accuracy.md
# make bench-peers                  the peer's own environment, for its column of those tables
# make bench, make bench-quick      speed beside peers, see docs/performance.md
# make bench-scale ARGS=--quick     ingest, snapshot, scoring and publishing at size, see docs/performance.md

PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
ROOT ?= $(DEMO)
PEERS := .venv-peers

.PHONY: venv demo browser servers test test-airflow cases faults mutants lint types deps check picture gpu-check clean bench bench-quick bench-scale bench-accuracy bench-peers
.DELETE_ON_ERROR:

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else \
		f"$(PYTHON) is Python {v[0]}.{v[1]}, but 3.11 or 3.12 is needed. Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[airflow,airflow-test,cpu,demo,dev,postgres,rank,redis]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m jobs.demo --root $(DEMO)

# Tests open pages in Chromium, which only root can install. Without it they are skipped.
browser:
	-@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		{ apt-get update && apt-get install --yes --no-install-recommends chromium; }

# Tests of deliveries start a PostgreSQL and a Redis of their own. Without them they are skipped.
servers:
	-@{ command -v redis-server && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || \
		[ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		{ apt-get update && apt-get install --yes --no-install-recommends postgresql redis-server; }

# One thread for each test process: two processes that each use every core get in one another's way.
test: $(INSTALLED) browser servers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

# Needs PostgreSQL's programs (apt-get install postgresql). About 12 minutes.
test-airflow: $(INSTALLED)
	HMAMBA_NEEDS_SERVERS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m week tests/dags/test_week.py

cases: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cases $(PYTEST_ARGS)

# ARGS: such as ARGS='--cases 5000 --seed 7' overnight.
faults: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(ARGS)

# ARGS: patterns of mutants, such as ARGS='"hmamba.index.tuning*"'. It resumes where it was stopped.
mutants: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

deps: $(INSTALLED)
	$(BIN)/python -m pip check

check: lint types deps test

picture: $(INSTALLED)
	$(BIN)/python -m bench.disk --root $(ROOT) --out docs/images/catalogue-on-the-disk.png

# The interpreter is the machine's own: its PyTorch is the one that sees the GPU.
gpu-check:
	$(PYTHON) -m bench.gpu $(if $(DATA),--data '$(DATA)') $(if $(OUT),--out '$(OUT)') $(if $(SITE),--site '$(SITE)')

# DATA: a name or a file. ARGS: options, such as ARGS='--seeds 1,2,3'. HMAMBA_DATA: where the named data sets are.
bench-accuracy: $(INSTALLED)
	@if [ -z "$(DATA)" ]; then echo 'Say which data: make bench-accuracy DATA=beauty'; exit 2; fi
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.accuracy $(DATA) $(ARGS)

bench: $(INSTALLED)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.speed $(ARGS)

bench-quick: $(INSTALLED)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.speed --quick --print-only $(ARGS)

# ARGS: --quick, or --events N, --users N,N, --only nights or scoring; without, 50 million events and a million users.
bench-scale: $(INSTALLED)
	$(BIN)/python -m bench.scale $(ARGS)

bench-peers: $(PEERS)/.installed

$(PEERS)/.installed: bench/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -r bench/peers/requirements.txt
	@touch $@

# What was measured, under build/bench, stays: it may have taken hours.
clean:
	@if [ -e $(DEMO)/.hmamba-demo ]; then rm -rf $(DEMO); fi
	rm -rf $(VENV) $(PEERS) mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
