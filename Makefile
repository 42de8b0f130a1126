# Deskhand. `make demo` shows it; `make test` proves it.
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check format bench doctor clean

BIN := .venv/bin
INPUTS := pyproject.toml constraints.txt scripts/setup

help: ## Show what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.run: $(INPUTS)
	@scripts/setup run
	@touch $@

.venv/.dev: $(INPUTS)
	@scripts/setup dev
	@touch .venv/.run $@

setup: .venv/.run ## Set everything up; leaves .venv/bin/deskhand

demo: .venv/.run ## Show the whole loop: one request, an isolated computer, a file to keep
	@$(BIN)/deskhand demo

serve: .venv/.run ## Serve the API (settings: .venv/bin/deskhand settings)
	@$(BIN)/deskhand serve

doctor: .venv/.run ## Say what this host can enforce and what is missing
	@$(BIN)/deskhand doctor

test: .venv/.dev ## Run the whole test suite
	@$(BIN)/python -m pytest -n 2

check: .venv/.dev ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.dev ## Measure, as ratios in one run
	@$(BIN)/python -m benchmarks

clean: ## Remove what setup and tests made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output
