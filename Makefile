# `make` alone lists the targets. No target needs a terminal.

SHELL := /bin/sh
CARGO ?= cargo
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup build demo up down test lint fmt docs ci clean-state

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what is missing: Redis from Debian, sysg into .tools
	@sh deploy/setup.sh

build: setup ## build orch into target/release
	$(CARGO) build --release --locked

demo: build ## run the whole thing once: a health report of this repository
	@sh deploy/demo.sh

up: build ## start it under sysg and leave it running
	@sh deploy/fleet.sh up

down: setup ## stop what `make up` or `sysg start` left running
	@sh deploy/fleet.sh down

test: setup ## run all tests, on a real Redis and a real sysg
	ORCH_TEST_SYSG="$$(command -v sysg)" $(CARGO) test --workspace --locked

lint: ## clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## format the source
	$(CARGO) fmt --all

docs: ## build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

ci: ## all that CI checks
	.ci/run

# Nothing may be running on data that is taken away.
clean-state: ## forget all goals, tasks and reports: remove .orch
	@! sh deploy/fleet.sh running || { echo "it is running: make down first" >&2; exit 1; }
	rm -rf .orch
