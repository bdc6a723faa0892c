# One way to do each thing. Needs a Python of at least 3.11 and nothing else: what is locked goes into .venv.
.DEFAULT_GOAL := setup
.PHONY: setup demo test lint bench lock clean

VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
# For `make demo ARGS="--cities 2"`, and `make test PYTEST=tests/geo` while working on one part.
ARGS ?=
PYTEST ?=
# The interpreter to start from; found by itself if not given.
PYTHON ?=
export PYTHON

setup: $(READY)
	@echo "make demo [ARGS=…]    a city in one process, no Kafka needed: pings in, alerts out"
	@echo "make test             everything that must hold: lint, types, layers, tests, mutations"
	@echo "make lint             ruff, mypy and the layers alone"
	@echo "make bench            how fast it is on this machine"
	@echo "make lock             resolve the dependencies of pyproject.toml anew into requirements.lock"
	@echo "make clean            remove the environment and everything that was made"

demo: $(READY)
	@exec $(BIN)/urban-brain demo $(ARGS)

test: lint
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)
	$(if $(PYTEST),,$(BIN)/python -m tests.mutations)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

# The registry that was asked must not show in the lock: anybody resolves against their own.
lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-header --no-emit-find-links -q -o requirements.lock

clean:
	rm -rf $(VENV) build dist .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Two stamps: a change of the lock installs what is locked, a change of pyproject.toml (its commands) only the project.
$(LOCKED): requirements.lock
	@python=$$(sh .ci/find_python.sh) && { [ -x $(BIN)/python ] && $(BIN)/python -c 'import pip' 2>/dev/null || $$python -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
