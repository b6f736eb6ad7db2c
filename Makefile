# `make` alone lists the targets. No target needs a terminal.

SHELL := /bin/sh
CARGO ?= cargo
export PATH := $(CURDIR)/.tools/bin:$(PATH)

# Where tests find the programs that they run.
TEST_TOOLS = ORCH_TEST_SYSG="$$(command -v sysg)" \
	ORCH_TEST_CLAUDE="$(CURDIR)/.tools/llm/bin/claude" ORCH_TEST_CODEX="$(CURDIR)/.tools/llm/bin/codex"

.DEFAULT_GOAL := help
.PHONY: help setup llm-clis peers prometheus build demo up down test test-live model chaos chaos-short soak jaeger test-jaeger bench bench-peers bench-traces lint fmt docs ci clean-state fuzz sim planted

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

llm-clis: setup ## install claude and codex into .tools, for the tests
	@sh deploy/llm-clis.sh

peers: ## install BullMQ, Celery and porki into .tools, to be measured
	@sh deploy/peers.sh

prometheus: ## install Prometheus and promtool from Debian, for the tests; it is not started
	@sh deploy/setup.sh prometheus

test: setup llm-clis prometheus ## run all tests, on a real Redis, sysg, claude, codex and Prometheus
	$(TEST_TOOLS) $(CARGO) test --workspace --locked --no-fail-fast

jaeger: ## build Jaeger into .tools, where Go is installed
	@sh deploy/jaeger.sh

test-jaeger: setup jaeger ## run a fleet, kill an agent, and ask the real Jaeger what it saw
	$(TEST_TOOLS) $(CARGO) test --locked --test e2e jaeger:: -- --ignored

# The only target that talks to a model, and costs money: at most a dollar.
test-live: setup llm-clis ## run one goal on the real service: needs a key or a login
	@$(TEST_TOOLS); "$$ORCH_TEST_CLAUDE" auth status > /dev/null 2>&1 || { \
	    echo "nobody is logged in: set ANTHROPIC_API_KEY, or log in with $$ORCH_TEST_CLAUDE" >&2; exit 1; }
	$(TEST_TOOLS) $(CARGO) test --locked --test e2e llm::live -- --ignored --nocapture

# SEED=n plays one and prints its steps; FIRST=n is where SEEDS begin, so that many can be
# played in parts: SEEDS=50000, then FIRST=50001 SEEDS=50000.
sim: ## play SEEDS=1000 seeds of the simulator: real scripts, virtual time, faults
	@SEED=$(SEED) SEEDS=$(SEEDS) FIRST=$(FIRST) $(CARGO) test --profile sim --locked -q -p sim --test sim \
	    promises -- --nocapture

# Each bug that is known to break a promise, in a copy of the sources: who finds it, and when.
planted: ## plant bugs into a copy, and see which detector finds each
	@sh tests/planted/run.sh

model: ## explore every state of the claim protocol, and print how many
	$(CARGO) test --locked -p model --test protocol -- --nocapture --test-threads=1

# Run alone on the machine: what is measured is time. SEED=n repeats the faults of a run.
CHAOS = $(TEST_TOOLS) ORCH_CHAOS_SEED=$(or $(SEED),$(CHAOS_SEED)) $(CARGO) test --locked
CHAOS_RUN = --test chaos fleet_should -- --ignored --nocapture

chaos: CHAOS_SEED = $(shell date +%s)
chaos: setup ## break everything for 10 minutes, and see that nothing is lost
	ORCH_CHAOS_SECONDS=600 ORCH_CHAOS_FAULTS=100 ORCH_CHAOS_TASKS=2000 $(CHAOS) --release $(CHAOS_RUN)

chaos-short: CHAOS_SEED = 1
chaos-short: setup ## the same for a minute, as CI does
	$(CHAOS) $(CHAOS_RUN)

soak: CHAOS_SEED = $(shell date +%s)
soak: setup ## one plan after the other under faults, for hours: make soak HOURS=8
	ORCH_CHAOS_HOURS=$(or $(HOURS),1) ORCH_CHAOS_SECONDS=600 ORCH_CHAOS_TASKS=2000 $(CHAOS) --release $(CHAOS_RUN)

# In memory where there is such a place: how a disk makes and removes thousands of small files
# differs from one minute to the next.
BENCH_TMP = $(shell d=/dev/shm; test -w $$d || d=/tmp; echo $$d)
bench-traces: setup ## measure what traces cost, on a machine that does nothing else
	TMPDIR=$(BENCH_TMP) $(TEST_TOOLS) $(CARGO) test --locked --release --test bench -- --ignored --nocapture
	$(CARGO) bench --locked --bench perf -- passes

bench: setup ## measure tasks, fleets and recovery, on a machine that does nothing else
	TMPDIR=$(BENCH_TMP) $(TEST_TOOLS) $(CARGO) bench --locked --bench perf -- $(CASES)

bench-peers: setup peers ## the same tasks by BullMQ, Celery and porki, in turn with ours on the same Redis
	TMPDIR=$(BENCH_TMP) $(CARGO) bench --locked --bench perf -- peers

# What it finds is told with how to run it again, and kept in target/fuzz/artifacts; what it
# learns is kept in target/fuzz/corpus, and the seeds of fuzz/seeds stay as they are. No
# sanitizer: the code is safe Rust, and so it needs no nightly toolchain.
SECONDS ?= 3600
fuzz: ## look for inputs that break TARGET=<name> for SECONDS=3600
	@sh deploy/setup.sh cargo-fuzz
	@test -f "fuzz/fuzz_targets/$(TARGET).rs" || { \
	    echo "name a TARGET:" $$(ls fuzz/seeds) >&2; exit 1; }
	@mkdir -p target/fuzz/corpus/$(TARGET) target/fuzz/artifacts/$(TARGET)
	$(CARGO) fuzz run --sanitizer none --target-dir target/fuzz $(TARGET) \
	    target/fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) -- \
	    -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
	    -dict=fuzz/dict/$(TARGET).dict -artifact_prefix=target/fuzz/artifacts/$(TARGET)/ \
	    -print_final_stats=1

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
