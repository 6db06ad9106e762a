# Two commands from a fresh clone: `make demo` and `make test`. Both need only python3 (3.11 or newer) and pip.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Process tests mostly wait, so more of them than cores run at once.
JOBS ?= 4
PYTEST_ARGS ?=
# `LOCKED=1` installs what requirements/ names, with its hashes; without it, the newest versions that are allowed.
LOCKED ?=
# A wheel to test instead of the sources.
WHEEL ?=
# The tag that a release is made of.
TAG ?=
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check

.PHONY: help demo test test-warm collect coverage lint types contracts docs check dist lock drill drill-services drill-faults bench guard clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/installed ## serve the demo application with 2 workers on http://127.0.0.1:8000
	$(BIN)/asgi-master --workers 2 --drain-timeout 3 --app-dir examples demo:app

# Each process test starts interpreters that write no bytecode: without it they would compile the program each time.
test: $(VENV)/testing ## run all tests
	$(BIN)/python -m compileall -q -o 0 -o 1 src tests/support/apps
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 20 $(PYTEST_ARGS)

# The first run after a change of the tests rewrites their assertions, in each of its processes unless this did it before.
collect: $(VENV)/testing ## what to do ahead of the tests, beside something else
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq $(PYTEST_ARGS) >/dev/null

test-warm: $(VENV)/testing ## applications of frameworks under edits: warm reloads answer what cold ones answer
	LARGE_APPLICATIONS=1 $(BIN)/python -m pytest -n $(JOBS) tests/frameworks/test_warm_corpus.py

# The rooms of which the tests in the folder of the same name reach every branch, and those of which they need not.
COVERED := asgi history http ipc settings supervision
REPORTED := cli control master telemetry tls worker

coverage: $(addprefix coverage-,$(COVERED) $(REPORTED)) ## which branches of a room its own tests reach: all, of the pure ones

coverage-%: export COVERAGE_FILE = .coverage/$*
coverage-%: $(VENV)/testing
	rm -rf $(COVERAGE_FILE) $(COVERAGE_FILE).* && mkdir -p .coverage
	$(BIN)/coverage run --source asgi_master.$* -m pytest -q --timeout 300 tests/$*
	$(BIN)/coverage combine -q
	$(BIN)/coverage report $(if $(filter $*,$(COVERED)),--fail-under=100)

lint: $(VENV)/developing ## style, and what is unsafe in workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --offline --quiet --no-progress .github

types: $(VENV)/developing ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/developing ## which room may import which
	$(BIN)/lint-imports

check: lint types contracts test ## everything that must be green

docs: $(VENV)/testing ## generate the reference pages
	$(BIN)/python -m asgi_master.settings.reference > docs/reference/settings.md
	$(BIN)/python -m asgi_master.control.metrics_page docs/reference/metrics.md

dist: $(VENV)/distributing ## build wheel and sdist, and try them in an empty environment
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/support/distributions.py dist $(TAG)

lock: ## renew requirements/ (needs uv); versions younger than a week are left out
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --exclude-newer "$$(date -u -d '7 days ago' +%FT00:00:00Z)" --all-extras --group test --group lint --group dist \
	  --output-file requirements/development.txt pyproject.toml

drill: $(VENV)/testing ## 200 reloads under clients of every kind, storms, and every fault; takes about 15 minutes
	DRILL_RELOADS=200 DRILL_STORMS=1 $(BIN)/python -m pytest -s tests/process/test_drill.py
	DRILL_FAULTS=1 $(BIN)/python -m pytest -n $(JOBS) tests/process/test_faults.py

drill-services: $(VENV)/testing ## 200 reloads in a row, in which no service may run twice; takes about 5 minutes
	DRILL_SERVICE_RELOADS=200 $(BIN)/python -m pytest -s tests/process/test_services.py

drill-faults: $(VENV)/testing ## every system call fails, in every role (needs strace); takes about 15 minutes
	DRILL_SYSTEM_CALLS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/process/test_system_calls.py

bench: ## measure beside other servers; writes docs/benchmarks.md; takes about 40 minutes (needs wrk, taskset, openssl)
	$(PYTHON) benchmarks/run.py
	$(PYTHON) benchmarks/start.py
	$(PYTHON) benchmarks/memory.py
	$(PYTHON) benchmarks/scale.py
	$(PYTHON) benchmarks/blocking.py
	$(PYTHON) benchmarks/wsgi.py

guard: $(VENV)/testing ## a request must not cost much more than it did; takes seconds
	$(BIN)/python benchmarks/guard.py

clean: ## remove what the other targets made
	rm -rf $(VENV) dist .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# An interpreter without ensurepip (Debian without python3-venv) gets its pip from the one outside.
$(VENV)/made:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	$(if $(LOCKED),$(PIP) --require-hashes -r requirements/development.txt)
	$(PIP) $(if $(WHEEL),'$(WHEEL)[reload]',-e '.[reload]')
	touch $@

$(VENV)/testing: $(VENV)/installed
	$(PIP) --group test
	touch $@

$(VENV)/developing: $(VENV)/testing
	$(PIP) --group lint
	touch $@

$(VENV)/distributing: $(VENV)/made pyproject.toml
	$(if $(LOCKED),$(PIP) --require-hashes -r requirements/development.txt,$(PIP) --group dist)
	touch $@
