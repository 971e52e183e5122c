.PHONY: help check test demo bench chaos slow simulate mariadb pictures clean

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

chaos: ## every fault, alone and mixed, under a load of every kind; FLOWS_SEED=<n> replays the seed that it prints
	./dev chaos

slow: ## the long forms of the tests: kills, races, outages
	./dev test -m slow

simulate: ## 100,000 random worlds in portions: stopped, it goes on where it was; FLOWS_SEED=<n> is the first seed
	./dev shell -m tests.simulation

mariadb: ## all that runs on MariaDB (needs mariadb-server)
	./dev test --stores=mariadb

pictures: ## pictures of the dashboard's pages, docs/pictures (needs Chromium)
	./dev shell -m tests.dashboard.pictures

clean: ## remove the environment and every cache
	rm -rf .venv .hypothesis .simulated .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
