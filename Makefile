# Deskhand. `make demo` shows it; `make test` proves it.
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-postgres attacks check format bench retrieval soak contract docs crash doctor clean

BIN := .venv/bin
INPUTS := pyproject.toml constraints.txt scripts/setup
# Marks of a finished setup. They name this folder, as a virtual environment that was moved or copied does not work.
PLACE := $(shell pwd -P | cksum | cut -d' ' -f1)
RUN := .venv/.run-$(PLACE)
DEV := .venv/.dev-$(PLACE)

help: ## Show what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN): $(INPUTS)
	@scripts/setup run
	@touch $@

$(DEV): $(INPUTS)
	@scripts/setup dev
	@touch $(RUN) $@

setup: $(RUN) ## Set everything up; leaves .venv/bin/deskhand

demo: $(RUN) ## Show the whole loop: one request, an isolated computer, a file to keep
	@$(BIN)/deskhand demo

serve: $(RUN) ## Serve the API (settings: .venv/bin/deskhand settings)
	@$(BIN)/deskhand serve

doctor: $(RUN) ## Say what this host can enforce and what is missing
	@$(BIN)/deskhand doctor

test: $(DEV) ## Run the test suite (the attacks have a target of their own)
	@$(BIN)/python -m pytest -n 2 --ignore tests/attacks
	@echo "Not run here: tests/attacks, which count what is on the whole host and want it to themselves: make attacks"

test-postgres: $(DEV) ## Run the test suite again, with the records of every server in PostgreSQL
	@DESKHAND_TEST_DATABASE=postgres $(BIN)/python -m pytest -n 2 --ignore tests/attacks

attacks: $(DEV) ## Attack every engine of this machine, one after another (DESKHAND_ATTACK_ENGINES=bubblewrap for one)
	@DESKHAND_ATTACK_ENGINES=$${DESKHAND_ATTACK_ENGINES:-all} $(BIN)/python -m pytest tests/attacks

check: $(DEV) ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) ## Measure, as ratios in one run
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -q --disable-pip-version-check --group bench
	@$(BIN)/python -m benchmarks

retrieval: $(DEV) ## Measure how good searches in vector stores are (nDCG@10 of words, vectors and both)
	@$(BIN)/python -m benchmarks.retrieval

soak: $(DEV) ## Live a week in fast-forward and look for what is left (SOAK="--seconds 3600 --engine crun")
	@$(BIN)/python -m tests.soak $(SOAK)

contract: $(DEV) ## Try many made-up requests against our own OpenAPI document (DESKHAND_TEST_EXAMPLES=200)
	@DESKHAND_TEST_EXAMPLES=$${DESKHAND_TEST_EXAMPLES:-100} $(BIN)/python -m pytest --timeout 900 tests/api/test_contract.py

docs: $(DEV) ## Write what is generated of the reference: docs/reference/coverage.md
	@$(BIN)/python -m tests.coverage

crash: $(DEV) ## Kill servers, containers and the database under streams, and check each run (CRASH="--kills 300 --postgres")
	@$(BIN)/python -m tests.crash $(CRASH)

clean: ## Remove what setup and tests made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output tests/clients/node/node_modules
