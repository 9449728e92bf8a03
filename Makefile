# `make demo` and `make test` set up what they need in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
export AWS_EC2_METADATA_DISABLED := true

.PHONY: demo test check format clean

demo: .venv/ready
	$(BIN)/turnstile demo

test: .venv/ready
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not live"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	$(BIN)/python scripts/lint_machines.py

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .turnstile .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Turnstile needs Python 3.11 or newer; say which with PYTHON=python3.x make ..."; exit 1; }
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --editable . --group dev
	@touch $@
