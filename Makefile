# `make run` starts the gateway and calls it; `make test` checks everything. Both install what is missing first.
# The rest: `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# One target directory for every clone of this user: what was compiled once is not compiled again.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/evenkeel/target

EVENKEEL := $(CARGO_TARGET_DIR)/release/evenkeel

.PHONY: help run demo process test lint fuzz release bench load sizing livekit quality soak peers node node-bench wasm wasm-bench page page-bench install

help: ## List what can be made
	@sed -En 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

RECORDING ?= testdata/clips/en-gb-48k.flac

run: release ## Start the gateway with its echo room, call it with a recording, and stay up; RECORDING=FILE says another
	tools/run $(EVENKEEL) $(RECORDING)

demo: release ## The same on free ports, and end
	tools/run $(EVENKEEL) $(RECORDING) --demo

process: release ## Play a recording through the whole audio path and back, over a good network and a bad one
	@mkdir -p out
	$(EVENKEEL) process $(RECORDING) --to out/voice.opus
	@echo
	$(EVENKEEL) process $(RECORDING) --to out/lossy.wav --loss 10 --burst 2 --jitter 40 --fec --seed 1
	@echo
	@echo "out/voice.opus is what a listener hears on a good network, out/lossy.wav on a bad one."
	@echo "More: $(EVENKEEL) --help"

bench: release ## Measure the audio path on this machine, with a plot in out/; BENCH_FLAGS=... are passed on
	@mkdir -p out
	$(EVENKEEL) bench --plot out/bench.svg $(BENCH_FLAGS)

LOAD_FLAGS ?= --streams 100 --seconds 30

load: release ## Run a hundred streams for half a minute, with a plot in out/; LOAD_FLAGS=... asks for something else
	@mkdir -p out
	$(EVENKEEL) load --plot out/load.svg $(LOAD_FLAGS)

sizing: release ## What so many devices cost the gateway, as docs/operations.md has it; SIZING_FLAGS=--help lists settings
	tools/sizing --evenkeel $(EVENKEEL) $(SIZING_FLAGS)

quality: ## Hold what the path does to speech against bare libopus, with a table and a plot in out/; QUALITY_FLAGS=--quick is short
	tools/install build quality
	cargo build --locked --release --package evenkeel-cli --package evenkeel-bench --bin evenkeel --example bare_opus
	python=$$(tools/venv quality quality/requirements.txt); \
	    "$$python" quality/measure.py --binaries $(CARGO_TARGET_DIR)/release $(QUALITY_FLAGS)

SOAK_SECONDS ?= 600

soak: release ## Let streams come and go for SOAK_SECONDS (default 600); fails if memory grows; plot in out/
	@mkdir -p out
	$(EVENKEEL) load --soak --seconds $(SOAK_SECONDS) --plot out/soak.svg

peers: release ## Compare with a gateway's audio path in Node.js, by turns on the same load; PEERS_FLAGS=--help lists settings
	tools/install build quality peers
	bench/peers/node/install
	node bench/peers/compare.mjs --evenkeel $(EVENKEEL) $(PEERS_FLAGS)
	@echo
	python=$$(tools/venv quality quality/requirements.txt); \
	    "$$python" quality/peers.py --binaries $(CARGO_TARGET_DIR)/release

livekit: ## Test LiveKit rooms against the real server and real peers (installs them)
	tools/install build
	tools/livekit test

node: ## Build the Node.js package, pack it, install it in an empty project, and test it there
	tools/install build node
	tools/node test

node-bench: ## Measure the Node.js package beside a gateway's audio path in Node.js; NODE_BENCH_FLAGS=--help lists settings
	tools/install build node quality peers
	tools/node bench $(NODE_BENCH_FLAGS)

wasm: ## Build the WebAssembly package, test it packed and installed in an empty project, and the page with it in Chromium
	tools/install build wasm
	tools/wasm test
	tools/wasm page-test

wasm-bench: ## Measure the WebAssembly package in Node.js beside native code, and the size of its modules
	tools/install build wasm
	tools/wasm bench

test: ## Run all tests, with the programs they compare with installed
	tools/install build test
	cargo test --locked --workspace --no-fail-fast

lint: ## Check form, lints, dependencies, documentation and house rules
	tools/install build lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --workspace --no-deps --document-private-items --quiet
	cargo deny --locked --log-level error check bans licenses sources
	tools/house-rules

fuzz: ## Run every fuzz target for FUZZ_SECONDS (default 30); FUZZ_TARGETS="a b" picks some
	tools/install build fuzz
	tools/fuzz

page: ## Build the page's WebAssembly modules, which the gateway carries; run and demo do it too
	tools/install build page
	tools/wasm build

page-bench: ## Measure the page in Chromium: PESQ of the echo, round trip, underruns and garbage; some minutes
	tools/install build wasm quality
	tools/wasm page-bench $(PAGE_BENCH_FLAGS)

PREFIX ?= /usr/local

install: release ## Put the program where the system has such: PREFIX (default /usr/local)
	install -D -m 755 $(EVENKEEL) $(DESTDIR)$(PREFIX)/bin/evenkeel

release:
	tools/install build
	tools/wasm page
	cargo build --locked --release --package evenkeel-cli
