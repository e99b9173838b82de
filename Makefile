# Two commands for a newcomer: `make run` and `make test`. `make check` is the whole gate.
CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help run test parts check fmt lint doc deny audit schema reference bench bench-page bench-search pictures soak fuzz release install clean-parts

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build, and serve a small demo server at http://127.0.0.1:6270/mcp
	$(CARGO) run -- serve --demo

parts: ## Install the servers and clients that the black-box tests use (npm, Python, Chromium)
	./tests/install

test: parts ## Install what the tests need, and run them all
	$(CARGO) test --workspace

check: fmt lint test doc deny ## The whole gate: format, lints, tests, docs, dependencies, schema drift

fmt: ## Check the format
	$(CARGO) fmt --all --check

lint: ## Clippy, pedantic, no warnings
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# The documentation is for those who work on the code, private items and all, so links to them are fine.
doc: ## Build the documentation, no broken links
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items

deny: ## Licences, duplicates and sources of the dependencies
	@command -v cargo-deny >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-deny
	$(CARGO) deny --log-level error check bans licenses sources

# Apart from the gate: it fetches the database of advisories, and an advisory of today is no fault of today's change.
audit: ## Dependencies with known faults, or that nobody keeps
	@command -v cargo-deny >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-deny
	@command -v cargo-audit >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-audit
	$(CARGO) deny --log-level error check advisories
	$(CARGO) audit --deny warnings
	$(CARGO) audit --deny warnings --file tests/fuzz/Cargo.lock

schema: ## Write config/schema.json anew
	$(CARGO) run --quiet -- schema > config/schema.json.new
	mv config/schema.json.new config/schema.json

reference: ## Write docs/configuration.md anew
	$(CARGO) run --quiet -- schema --markdown > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

bench: ## Measure direct, bare proxy and Trunkline side by side; writes docs/bench.md (AGAINST=an older binary compares)
	$(CARGO) build --release --bin trunkline
	$(CARGO) run --release --quiet -p trunkline-bench -- --trunkline target/release/trunkline --write docs/bench.md $(if $(AGAINST),--against $(AGAINST))

bench-page: parts ## Measure the dashboard: weight, first paint, processor time while it is watched
	$(CARGO) build --release --bin trunkline --example fake-upstream
	node tests/bench/page/measure.mjs target/release/trunkline target/release/examples/fake-upstream

bench-search: ## Measure tool search: reading and searching 2,000 tools, and the tokens that it saves
	$(CARGO) test --release --quiet -p trunkline-hub --lib -- takes_this --ignored --nocapture

pictures: parts ## Make the pictures of the dashboard in docs/ anew (takes port 6270 for some minutes)
	$(CARGO) build --release --bin trunkline --example fake-upstream
	node tests/bench/page/pictures.mjs target/release/trunkline target/release/examples/fake-upstream docs

soak: ## Servers that fail at random before a busy daemon, for MIN minutes (5); fails if anything breaks or grows
	$(CARGO) build --release --bin trunkline --example fake-upstream
	SOAK_SECS=$$(( $(or $(MIN),5) * 60 )) $(CARGO) test --release --test soak -- --nocapture

fuzz: ## Explore the parsers for SECS seconds each (60)
	./tests/fuzz/explore $(or $(SECS),60)

release: ## Build the optimised binary: target/release/trunkline
	$(CARGO) build --release --bin trunkline

install: ## Install the binary into cargo's bin directory
	$(CARGO) install --path . --locked
