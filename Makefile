# `make run` plays a recording through the audio path; `make test` checks everything. Both install what is missing first.
# The rest: `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# One target directory for every clone of this user: what was compiled once is not compiled again.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/evenkeel/target

EVENKEEL := $(CARGO_TARGET_DIR)/release/evenkeel

.PHONY: help run test lint fuzz release

help: ## List what can be made
	@sed -En 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

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

release:
	tools/install build
	cargo build --locked --release --package evenkeel-cli
