.PHONY: help check test demo bench chaos simulate pictures clean

help: ## this text
	@awk -F ":.*## " '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo; ./dev help

check: ## format, lint, types and tests: what CI runs
	./dev check

test: ## the tests
	./dev test

demo: ## the quickstart
	./dev demo

bench: ## the benchmarks
	./dev bench

chaos: ## the long forms: kills, races, outages
	./dev test -m slow

simulate: ## 20,000 random worlds; FLOWS_SEED=<n> replays the seed that it prints
	./dev test -n 0 -s -m slow tests/simulation

pictures: ## pictures of the dashboard's pages, docs/pictures (needs Chromium)
	./dev shell -m tests.dashboard.pictures

clean: ## remove the environment and every cache
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
