# Everything that is built or downloaded lies outside the checkout, so a fresh clone starts warm.
EVERGATE_CACHE ?= $(HOME)/.cache/evergate
export CARGO_TARGET_DIR ?= $(EVERGATE_CACHE)/target

CARGO ?= cargo
SKIPPED := $(CARGO_TARGET_DIR)/skipped-tests.txt

.PHONY: help dev setup fmt lint test fuzz

help:
	@echo "make dev    run everything in one process, with an embedded log"
	@echo "make test   set up, check format and lints, run every test"
	@echo "make lint   format check, clippy, and an audit of the dependencies: licences, sources, known weaknesses"
	@echo "make fmt    format the code"
	@echo "make fuzz   look for inputs that break a parser, for SECONDS=3600"
	@echo "make setup  install what the tests need"

# The binary takes every EVERGATE_ variable for a setting, and the cache is none.
dev:
	env -u EVERGATE_CACHE $(CARGO) run --release -- dev

setup:
	scripts/setup.sh

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@code=0; scripts/audit.sh || code=$$?; \
	if [ $$code = 75 ]; then echo "lint: licences and known weaknesses were not checked"; else exit $$code; fi

fuzz:
	scripts/fuzz.sh $(or $(SECONDS),3600)

# What is built for the tests includes the binary, which the black-box tests start as any user would: a build of its
# own before would be of other features, and of everything twice.
# Examples measure, and the lints compile them; no comment holds code to be tried.
test: setup lint
	@mkdir -p $(CARGO_TARGET_DIR) && rm -f $(SKIPPED)
	EVERGATE_SKIPPED=$(SKIPPED) $(CARGO) test --workspace --locked --tests
	@if [ -s $(SKIPPED) ]; then echo; echo "TESTS LEFT OUT:"; cat $(SKIPPED); fi
