# `make` lists the commands. README.md and CONTRIBUTING.md say what each takes.

# One target folder per machine, not per checkout: RISC Zero's C++ is built once (docs/decisions/0002).
export CARGO_TARGET_DIR ?= $(HOME)/.cache/l2-prover/target
CARGO ?= cargo
# Set if the user chose a C++ compiler: `make` itself always has one in CXX.
CXX_GIVEN = $(filter environment,$(origin CXX))
ZKVM = --release -p l2 -p prover-risc0 --features l2/build_zkvm
# Arguments for the command, e.g. `make dev ARGS="--blocks 3"`.
ARGS ?=
SEEDS ?= 10000
ROUNDS ?= 100

.PHONY: help book release release-check deploy-check services setup-services setup-sbom dev dev-exec test test-32 simulate chaos two-servers upgrade restarts anvil settle settle-risc0 settle-chaos parts engine-r0vm contracts contracts-write contracts-mutants parts-speed cuda-check lint deny advisories soundness mutants guests fuzz fuzz-smoke scenarios scenarios-fixed setup setup-build setup-test setup-nextest setup-book offer-postgres setup-deny setup-mutants setup-fuzz setup-guests setup-32 setup-scenarios setup-browser dashboard-test dashboard-pictures

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

# Two calls of cargo: in one, `l2-prover` would get RISC Zero's proving code through the features it shares with the executable.
RISC0_ARGS = --release -p l2 --features build_zkvm --bin l2-prover-risc0
RISC0 = $(CARGO) build $(RISC0_ARGS)
# For whoever waits and watches: how much there is to build, and how long it takes.
BUILD = @CARGO="$(CARGO)" scripts/build.sh

dev: setup-build ## Set up, build with RISC Zero and prove blocks of a dev chain (RISC0_DEV_MODE=1 mocks the proofs)
	$(BUILD) $(RISC0_ARGS)
	$(BUILD) --release -p l2 --bin l2-prover
	@$(CARGO) run --quiet --release -p l2 -- dev --prover risc0 $(ARGS)

dev-exec: setup-build ## The same with the exec prover: no zkVM is built, nothing is proven
	$(BUILD) --profile quick -p l2 --bin l2-prover
	@$(CARGO) run --quiet --profile quick -p l2 -- dev --prover exec $(ARGS)

release: setup-build ## The executables as they are shipped, in dist/ of the target folder: stripped, with the symbols in .debug beside them
	$(CARGO) build --locked --release -p l2
	$(RISC0) --locked
	$(CARGO) xtask unlinked --binary $(CARGO_TARGET_DIR)/release/l2-prover
	scripts/symbols.sh $(CARGO_TARGET_DIR)/dist $(addprefix $(CARGO_TARGET_DIR)/release/,l2-prover l2-prover-bonsai l2-prover-risc0)

# PROFILE: release as it is shipped, or quick to try the steps. The zkVM's executable is left out: its build takes most of an hour.
PROFILE ?= release
CHECKED = $(CARGO_TARGET_DIR)/release-check

release-check: setup-build setup-sbom ## What can be tried of a release here: cargo install, stripping, the archive with its SBOM and checksums, the files of deploy/
	$(CARGO) install --locked --force --profile $(PROFILE) --path crates/l2 --root $(CHECKED)/installed
	scripts/symbols.sh $(CHECKED)/dist $(addprefix $(CHECKED)/installed/bin/,l2-prover l2-prover-bonsai)
	ZKVM=no scripts/release.sh $(CHECKED)/dist $(CHECKED)/out
	scripts/deploy_check.sh

deploy-check: ## Check the files of deploy/ with the programs that read them, as far as they are installed (ARGS=--all: all must be)
	scripts/deploy_check.sh $(ARGS)

test: setup-build setup-nextest offer-postgres ## Set up and run all tests; the zkVM's in release
	$(CARGO) nextest run
	$(CARGO) test --doc
	$(CARGO) nextest run $(ZKVM)

test-32: setup-guests setup-32 ## The tests of what is proven on 32 bits, as a guest has them, with and without overflow checks
	$(CARGO) xtask test32

simulate: ## Simulate the job engine under SEEDS (10000) seeds of faults, and say what happened in them
	SEEDS=$(SEEDS) $(CARGO) nextest run --profile long --no-capture -E 'package(server) & binary(simulation) & test(nothing)'

chaos: setup-build setup-test ## Kill, stop, cut and starve real servers, clients and databases, for ROUNDS (100) rounds
	CHAOS=$(ROUNDS) $(CARGO) nextest run --profile long --no-capture -E 'test(chaos::) | test(cut::)'

two-servers: setup-build setup-test ## Two servers on one PostgreSQL, one of them killed every 5 s for two minutes: every block proven once
	$(CARGO) build --profile quick -p l2
	scripts/two_servers.sh $(CARGO_TARGET_DIR)/quick/l2-prover

# OLD: the executable of the version before.
upgrade: setup-build setup-test ## Two servers on one PostgreSQL, and their clients, replaced one by one: from OLD=PATH/TO/l2-prover to this version
	$(CARGO) build --profile quick -p l2
	scripts/upgrade.sh $(OLD) $(CARGO_TARGET_DIR)/quick/l2-prover

services: setup-build setup-services ## The services of deploy/compose without containers: Prometheus sees every metric, and alerts fire when a client and a server die
	$(CARGO) build --profile quick -p l2 -p server --bin l2-prover --example s3_server
	scripts/services.sh $(CARGO_TARGET_DIR)/quick/l2-prover $(CARGO_TARGET_DIR)/quick/examples/s3_server

restarts: setup-build ## A server and the node it follows, killed and started again for two minutes: every block proven once, in order
	$(CARGO) build --profile quick -p l2
	scripts/restarts.sh $(CARGO_TARGET_DIR)/quick/l2-prover

anvil: setup-build ## anvil as the L2 (from npm): 100 blocks of it through eth_getProof, and a reorg
	$(CARGO) build --profile quick -p l2
	scripts/anvil_100.sh $(CARGO_TARGET_DIR)/quick/l2-prover $(CARGO_TARGET_DIR)/anvil

settle: setup-build ## The whole loop with the commands, on anvil (from npm): deployed contracts, a deposit, settled blocks, a withdrawal, and what each costs
	$(CARGO) build --profile quick -p l2
	scripts/settle.sh $(CARGO_TARGET_DIR)/quick/l2-prover $(CARGO_TARGET_DIR)/anvil

settle-risc0: setup-build ## The same with receipts of RISC Zero's dev mode, through its own router and mock verifier (from crates.io, compiled with npm's solc)
	$(CARGO) build --release -p l2
	$(RISC0)
	RISC0=1 scripts/settle.sh $(CARGO_TARGET_DIR)/release/l2-prover $(CARGO_TARGET_DIR)/anvil

settle-chaos: setup-build ## The tests of settlement that need anvil (from npm): among them senders killed at KILLS (200) random instants, reorgs and fees that rise
	KILLS=$(or $(KILLS),200) scripts/settle_anvil.sh $(CARGO_TARGET_DIR)/anvil

parts: setup-build ## A dev block proven for real in parts by two clients, one of them killed half way (PO2, KILL_AFTER); half an hour
	$(CARGO) build --release -p l2
	$(RISC0)
	scripts/parts.sh $(CARGO_TARGET_DIR)/release/l2-prover

# PO2, CORES: see the script.
parts-speed: setup-build ## A dev block proven for real by one client, then in parts by two with as many cores each; an hour
	$(CARGO) build --release -p l2
	$(RISC0)
	scripts/parts_speed.sh $(CARGO_TARGET_DIR)/release/l2-prover

R0VM = $(CARGO_TARGET_DIR)/r0vm-3.1.0-rc.1

# PO2, DEADLINE, KILL_AFTER: see the script. r0vm is built for half an hour of CPU time, once.
engine-r0vm: setup-build ## A dev block proven for real by r0vm's cluster (from crates.io): a manager, two workers, one of them killed half way; an hour
	$(CARGO) build --release -p l2
	[ -x $(R0VM)/bin/r0vm ] || CXX=$(if $(CXX_GIVEN),$(CXX),clang++) CARGO_TARGET_DIR=$(R0VM)/target $(CARGO) install --locked --root $(R0VM) --version =3.1.0-rc.1 risc0-r0vm
	scripts/engine_r0vm.sh $(CARGO_TARGET_DIR)/release/l2-prover $(R0VM)/bin/r0vm

dashboard-test: setup-build setup-nextest setup-browser ## The dashboard in a real browser (Chromium from Debian's packages), on a real server
	BROWSER=required $(CARGO) nextest run -p server -E 'binary(browser) | test(dashboard)'

dashboard-pictures: setup-build setup-browser ## Make the pictures of docs/dashboard.md anew, in docs/images/
	PICTURES=$(CURDIR)/docs/images $(CARGO) test -p server --test browser -- --exact pictures::the_pictures_of_the_docs

SCENARIOS = PYTHONPATH=scripts $(CARGO_TARGET_DIR)/scenarios/bin/python -m

scenarios: setup-build setup-scenarios ## Scenarios from SEEDS (10000) seeds, judged by the executable specification (from PyPI); or SEEDS=FROM..TO
	$(CARGO) build --profile quick -p l2
	$(SCENARIOS) scenarios.run --prover $(CARGO_TARGET_DIR)/quick/l2-prover --seeds $(SEEDS) $(ARGS)

scenarios-fixed: setup-scenarios ## The fixed set of scenarios that `make test` runs, made again
	$(SCENARIOS) scenarios.fixed crates/conformance/tests/scenarios.tar.zst

contracts: ## Compile contracts/ (solc from npm), compare the artifacts, run the tests (forge from npm, RISC Zero's contracts from crates.io)
	scripts/contracts.sh $(CARGO_TARGET_DIR)/contracts --check
	scripts/contracts_test.sh $(CARGO_TARGET_DIR)/contracts

contracts-write: ## Compile contracts/ and write contracts/artifacts
	scripts/contracts.sh $(CARGO_TARGET_DIR)/contracts

contracts-mutants: ## Take one `revert` after another out of contracts/, and name those that no test notices
	scripts/contracts.sh $(CARGO_TARGET_DIR)/contracts --check
	node scripts/contracts_mutants.js $(CARGO_TARGET_DIR)/contracts $(ARGS)

cuda-check: setup-build ## Compile RISC Zero's CUDA code without a GPU (nvcc from PyPI); ARGS=all for the whole executable, hours
	scripts/cuda_check.sh $(CARGO_TARGET_DIR)/cuda $(ARGS)

lint: ## Format, clippy, rustdoc, layers, links
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy $(ZKVM) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
	$(CARGO) xtask layers
	$(CARGO) xtask pages
	$(CARGO) xtask unlinked
	$(CARGO) xtask soundness --list

book: setup-book ## The book of docs/, in the target folder; fails on a page that is not in it and on a broken link
	$(CARGO) xtask book

deny: setup-deny ## Licences, duplicates and sources of all dependencies (deny.toml)
	$(CARGO) deny check licenses bans sources

advisories: setup-deny ## Known vulnerabilities of all dependencies; fetches RustSec's database over the network
	$(CARGO) deny check advisories

soundness: setup-build setup-test ## Take out one check marked SOUNDNESS: after another; a test must fail (ARGS="--guest" for the guests' checks)
	$(CARGO) xtask soundness $(ARGS)

mutants: setup-mutants ## Change one operator or body after another in `program` and `verifier`, and name those that no test notices
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/mutants $(CARGO) mutants --package program --package verifier $(ARGS)

guests: setup-guests ## Rebuild the guests and compare their program ids with the pinned ones
	$(CARGO) xtask guests --check

# RUSTC_BOOTSTRAP: instrumentation is an unstable flag of an otherwise stable compiler.
FUZZ = RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz $(CARGO) fuzz run --sanitizer none
FUZZ_SECONDS ?= 600

fuzz: setup-fuzz ## Fuzz every target for FUZZ_SECONDS (600) each, on top of the seeds
	for target in input block trie wire upload proof; do \
		mkdir -p fuzz/corpus/$$target && \
		$(FUZZ) $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

fuzz-smoke: ## The same for 4 seconds each
	$(MAKE) fuzz FUZZ_SECONDS=4

setup: setup-build setup-test setup-book setup-guests setup-32 setup-browser ## Install what building, testing and rebuilding guests needs

# $(call install,PACKAGES): with apt as root, or say what is missing.
define install
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); \
	else \
		echo "please install, as root: apt-get install --no-install-recommends $(1)" >&2; exit 1; \
	fi
endef

setup-build:
	@command -v $(CARGO) >/dev/null || { echo "please install Rust 1.95 or later: https://rustup.rs" >&2; exit 1; }
ifeq ($(and $(shell command -v cc 2>/dev/null),$(or $(CXX_GIVEN),$(shell command -v clang++ 2>/dev/null))),)
	$(call install,build-essential clang)
endif

setup-test: setup-nextest
ifeq ($(wildcard /usr/lib/postgresql/*/bin/initdb)$(shell command -v initdb 2>/dev/null),)
	$(call install,postgresql)
endif

setup-services: setup-test
ifeq ($(shell command -v prometheus 2>/dev/null),)
	$(call install,prometheus)
endif

setup-sbom:
	@$(CARGO) cyclonedx --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-cyclonedx

setup-browser:
ifeq ($(shell command -v chromedriver 2>/dev/null),)
	$(call install,chromium chromium-driver fonts-dejavu-core)
endif

setup-nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest

MDBOOK = 0.5.4

# Without its server: whoever reads the book opens the files.
setup-book:
	@[ "$$(mdbook --version 2>/dev/null)" = "mdbook v$(MDBOOK)" ] || \
		$(CARGO) install --locked --version =$(MDBOOK) --no-default-features --features search mdbook

# For `make test`, which skips the tests on PostgreSQL where it cannot be installed.
offer-postgres:
ifeq ($(wildcard /usr/lib/postgresql/*/bin/initdb)$(shell command -v initdb 2>/dev/null),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(MAKE) setup-test; \
	else echo "tests on PostgreSQL are skipped; to run them, as root: apt-get install --no-install-recommends postgresql" >&2; fi
endif

setup-deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny

setup-scenarios: scripts/scenarios/requirements.txt
	@test -x $(CARGO_TARGET_DIR)/scenarios/bin/python || python3 -m venv $(CARGO_TARGET_DIR)/scenarios
	@$(CARGO_TARGET_DIR)/scenarios/bin/pip install --quiet --disable-pip-version-check -r $<

setup-mutants: setup-build setup-test
	@$(CARGO) mutants --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-mutants

setup-fuzz: setup-build
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz

setup-guests:
ifeq ($(and $(wildcard /usr/bin/cargo),$(wildcard /usr/lib/rustlib/src/rust/library/std)),)
	$(call install,rustc-web cargo-web rust-web-src rust-web-llvm)
endif

setup-32:
ifeq ($(wildcard $(shell cc -m32 -print-file-name=libc.so 2>/dev/null)),)
	$(call install,gcc-multilib libc6-dev-i386)
endif
