# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format lock clean clean-cache

PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile
READY := .venv/.ready

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## set up, then mask and repaint real faces and measure what is left of them
	$(BIN)/python run.py masker=saliency ratio=0.25

test: $(READY) ## run the tests (offline, minutes)
	$(PYTEST) -m "not slow"

test-all: $(READY) ## run the slow tests too
	$(PYTEST)

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(BIN)/uv ## pin the newest versions that fit pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --no-header --no-annotate --upgrade \
		--quiet --output-file requirements.lock

clean: ## remove the environment and caches; run folders stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: $(READY) ## remove from the cache what no running process uses
	$(BIN)/python -m veil.storage.cache

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Veil needs Python >= 3.11, got " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

# --no-deps: the lock is complete, and facenet-pytorch's own pins are stale
$(READY): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --no-deps --compile-bytecode --requirement requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@
