# The contributor's door: `make` shows what there is. CONTRIBUTING.md says more of each.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup check test bench docs all

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s%s\n", $$1, $$2}' Makefile

setup: ## Make .venv with everything that development needs
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]' -c constraints.txt

check: ## Format, lint, types, layers: a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: ## All tests; some of them: make test ARGS="-n 0 -x tests/unit/core"
	$(BIN)/pytest -q $(ARGS)

bench: ## Benchmarks beside their opponents; some of them: make bench ARGS="--only echo,storm"
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

docs: ## Write what is made from the code: reference pages, dashboards, the chart's copies
	$(BIN)/python docs/build.py
	$(BIN)/python -m grafana.build
	$(BIN)/python helm/sync.py

all: ## What has to pass before a merge, from a clean checkout: .ci/run
	.ci/run
