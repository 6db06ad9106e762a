# Two commands from a fresh clone: `make demo` and `make test`. Both need only python3 (3.11 or newer) and pip.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Process tests mostly wait, so more of them than cores run at once.
JOBS ?= 4
PYTEST_ARGS ?=

.PHONY: help demo test lint types contracts docs check drill drill-faults bench guard clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/installed ## serve the demo application with 2 workers on http://127.0.0.1:8000
	$(BIN)/asgi-master --workers 2 --drain-timeout 3 --app-dir examples demo:app

test: $(VENV)/developing ## run all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/developing ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/developing ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/developing ## which room may import which
	$(BIN)/lint-imports

check: lint types contracts test ## everything that must be green

docs: $(VENV)/developing ## generate the reference pages
	$(BIN)/python -m asgi_master.settings.reference > docs/reference/settings.md

drill: $(VENV)/developing ## 200 reloads under clients of every kind, and every fault; takes about 15 minutes
	DRILL_RELOADS=200 $(BIN)/python -m pytest -s tests/process/test_drill.py
	DRILL_FAULTS=1 $(BIN)/python -m pytest -n $(JOBS) tests/process/test_faults.py

drill-faults: $(VENV)/developing ## every system call fails, in every role (needs strace); takes about 15 minutes
	DRILL_SYSTEM_CALLS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/process/test_system_calls.py

bench: ## measure beside other servers; writes docs/benchmarks.md; takes about 25 minutes (needs wrk, taskset)
	$(PYTHON) benchmarks/run.py
	$(PYTHON) benchmarks/memory.py
	$(PYTHON) benchmarks/scale.py
	$(PYTHON) benchmarks/blocking.py

guard: $(VENV)/developing ## a request must not cost much more than it did; takes seconds
	$(BIN)/python benchmarks/guard.py

clean: ## remove what the other targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# An interpreter without ensurepip (Debian without python3-venv) gets its pip from the one outside.
$(VENV)/made:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[reload]'
	touch $@

$(VENV)/developing: $(VENV)/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --group test --group lint
	touch $@
