# `make demo` and `make test` install what they need into .venv, and change nothing else.
PYTHON ?= python3
BIN := .venv/bin
export AWS_EC2_METADATA_DISABLED := true
# The tests start many Python processes: without this, each would compile the same files again.
unexport PYTHONDONTWRITEBYTECODE

# The SAM CLI pins other versions of our packages, so it has its own environment.
SAM_VERSION := 1.170.0
SAM := .venv-sam/bin/sam
SAM_READY := .venv-sam/ready-$(SAM_VERSION)
export SAM_CLI_TELEMETRY := 0
# `sam build` needs the functions' Python in PATH; pyenv keeps it here if another version is in use.
WITH_PYTHON313 := PATH="$(abspath .venv-sam/bin):$(lastword $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin)):$$PATH"
STACK ?= turnstile
# Parameters of template.yaml: make deploy MODEL=eu.anthropic.claude-sonnet-4-6 PARAMETERS="OperatorEmail=ops@example.com"
# A parameter that is not named here has its default in a new stack, and keeps its value in an existing one.
MODEL ?=
PARAMETERS ?=
OVERRIDES = $(addprefix ModelId=,$(MODEL)) $(PARAMETERS)
YES ?=
DEPLOY := --capabilities CAPABILITY_IAM --resolve-s3 --no-confirm-changeset --no-fail-on-empty-changeset

UV_VERSION := 0.13
LOCK := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: demo test test-fast check build name deploy delete deploy-scripted live format lock clean

demo: .venv/ready
	$(BIN)/turnstile demo

# More processes than cores: many tests wait most of the time.
test: .venv/ready
	$(BIN)/pytest -q -n 4 --dist loadgroup -m "not live"

# Without an engine: what to run while you write.
test-fast: .venv/ready
	$(BIN)/pytest -q -n 2 --dist loadgroup tests/unit tests/asl

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	$(BIN)/python scripts/lint_machines.py

build: $(SAM_READY)
	@if $(WITH_PYTHON313) python3.13 -c '' 2>/dev/null; then \
	    $(WITH_PYTHON313) $(SAM) validate --lint && $(WITH_PYTHON313) $(SAM) build; \
	else echo "Not built: sam build needs python3.13 in PATH."; fi

# No rule of the template can check the stack's name.
name: .venv/ready
	@$(BIN)/python scripts/deployment.py before $(STACK)

deploy: name build
	@$(WITH_PYTHON313) python3.13 -c ''
	$(SAM) deploy --stack-name $(STACK) $(if $(strip $(OVERRIDES)),--parameter-overrides $(OVERRIDES)) $(DEPLOY)
	@$(BIN)/python scripts/deployment.py after $(STACK)

# Asks first; `make delete YES=--yes` does not.
delete: .venv/ready $(SAM_READY)
	$(BIN)/turnstile halt --stack $(STACK) $(YES)
	$(SAM) delete --stack-name $(STACK) --no-prompts

# A stack for `make live`; its model gives the scenarios' replies. Not for real use: the tests delete its bookings.
deploy-scripted: STACK := turnstile-scripted
deploy-scripted: name $(SAM_READY)
	$(BIN)/python -m tests.live.stack .aws-sam/scripted
	$(WITH_PYTHON313) $(SAM) build --template .aws-sam/scripted/template.json --build-dir .aws-sam/scripted-build
	$(SAM) deploy --template .aws-sam/scripted-build/template.yaml --stack-name $(STACK) \
	    --parameter-overrides TableName=$(STACK) BusName=$(STACK) $(PARAMETERS) $(DEPLOY)

live: .venv/ready
	TURNSTILE_STACK=$(or $(TURNSTILE_STACK),turnstile-scripted) $(BIN)/pytest -q -m live

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-sam .aws-sam .turnstile .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Turnstile needs Python 3.11 or newer; name it with PYTHON=python3.x make ..."; exit 1; }
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(SAM_READY):
	@echo "Setting up .venv-sam (once) ..."
	@$(PYTHON) -m venv .venv-sam
	@.venv-sam/bin/pip install --quiet "aws-sam-cli==$(SAM_VERSION)"
	@touch $@

# Renews both lock files: every package may become newer. The functions get the versions that the tests run with.
lock:
	@test -d .venv-lock || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet "uv~=$(UV_VERSION).0"; }
	$(LOCK) --upgrade pyproject.toml --group dev --output-file requirements.lock
	$(LOCK) --upgrade functions/requirements.in --constraint requirements.lock --output-file functions/requirements.txt
