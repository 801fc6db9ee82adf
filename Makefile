# `make help` lists everything.

CARGO ?= cargo
# Where `make install` puts the binary and the plugins' names.
BIN_DIR ?= /opt/cni/bin
# What `make image` builds with, and how the image is called.
CONTAINER_ENGINE ?= podman
IMAGE ?= catena:$(shell sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# How long `make fuzz` looks, for each family.
FUZZ_SECONDS ?= 30
# What the release binary may have, in bytes: it is everything that is installed.
MAX_SIZE := 12000000
# The conflist that `make demo` tries.
CONFLIST ?= deploy/examples/full-chain.conflist

# A static binary needs the target to be named, or procedural macros would be built static, too.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/$(HOST)/release/catena
# Static, and at a fixed address as Go's plugins are, so that no page is relocated at the start of each process. Functions of the
# same code are kept once, and those that a call runs lie side by side (deploy/link). Neither the processor is asked what it has for
# SHA-256, nor the kernel twice for random numbers.
RELEASE_FLAGS := -C target-feature=+crt-static -C relocation-model=static -C symbol-mangling-version=v0 \
	-C linker=deploy/link/cc --cfg sha2_backend="soft" --cfg getrandom_backend="linux_getrandom"
# What cargo-fuzz gives the compiler, but for the sanitizers: they are nightly's, and find nothing in safe code that a panic does not
# say.
FUZZ_FLAGS := --cfg fuzzing -C debug-assertions -C overflow-checks -C passes=sancov-module \
	-C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
	-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares
FUZZ_TARGETS := dhcp_v4 dhcp_v6
FUZZ_DIR := $(TARGET_DIR)/fuzz
BENCH = $(dir $(BINARY))bench --catena $(BINARY)
# Which of them, by the beginnings of their names (`make bench CASES=one`); all where none is named.
CASES ?=
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env)
ifneq ($(SUDO),)
# Tests make namespaces: cargo builds as the user, and has each test binary run as root.
export CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUNNER := $(SUDO)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-kubernetes fuzz fuzz-keep kills bench bench-check bench-nodes bench-pods bench-tools order lint build image install uninstall packages kubernetes emulated nextest size clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

demo: packages build ## Try the full chain in a throw-away namespace (needs root)
	$(SUDO) $(BINARY) try $(CONFLIST)

test: packages kubernetes emulated nextest lint ## Everything that must hold: rustfmt, clippy, all tests, kills, fuzz (needs root)
	$(CARGO) nextest run --locked --workspace
	$(CARGO) test --locked --workspace --doc --quiet
	$(MAKE) kills
	$(MAKE) fuzz
	$(MAKE) size

test-kubernetes: packages kubernetes nextest ## The tests beside a real Kubernetes alone (needs root)
	$(CARGO) nextest run --locked --test kubernetes

fuzz: packages ## Look for packets that harm the DHCP client, FUZZ_SECONDS for each family
	RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --locked --release --target $(HOST) --manifest-path delegates/fuzz/Cargo.toml \
		--target-dir '$(FUZZ_DIR)'
	mkdir -p $(FUZZ_TARGETS:%='$(FUZZ_DIR)/found/%')
	for target in $(FUZZ_TARGETS); do \
		log='$(FUZZ_DIR)'/$$target.log; \
		'$(FUZZ_DIR)/$(HOST)/release'/$$target -max_len=1400 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			-artifact_prefix='$(FUZZ_DIR)/' '$(FUZZ_DIR)'/found/$$target delegates/fuzz/corpus/$$target >$$log 2>&1 \
			|| { tail -n 60 $$log >&2; exit 1; }; \
		echo "$$target: $$(sed -n 's/^stat::number_of_executed_units: *//p' $$log) packets, and none that harms"; \
	done

fuzz-keep: ## Take into the corpus what `make fuzz` has found, as far as it leads anywhere new
	for target in $(FUZZ_TARGETS); do \
		'$(FUZZ_DIR)/$(HOST)/release'/$$target -merge=1 delegates/fuzz/corpus/$$target '$(FUZZ_DIR)'/found/$$target || exit 1; \
	done

kills: packages nextest ## Kill every verb, and the DHCP daemon, at each system call; the tests alone try some (needs root)
	KILL_EVERY=1 $(CARGO) nextest run --locked --test kills --success-output final
	KILL_EVERY=1 $(CARGO) nextest run --locked --test dhcp --success-output final can_be_killed_at_any_point

bench: packages bench-tools ## Time Catena beside the Go reference plugins, in one run; writes docs/benchmarks (needs root)
	$(SUDO) $(BENCH) --out docs/benchmarks $(CASES)

bench-check: packages bench-tools ## See that no ratio is worse than the recorded ones in docs/benchmarks (needs root)
	$(SUDO) $(BENCH) --compare docs/benchmarks/results.json $(CASES)

bench-tools: build
	RUSTFLAGS='$(RELEASE_FLAGS)' $(CARGO) build --locked --release --package benches --target $(HOST)

order: packages ## Look which functions a call runs, and have them lie side by side in the binary: writes deploy/link/order (needs root)
	tests/install-packages.sh valgrind
	CARGO_PROFILE_RELEASE_STRIP=none $(MAKE) bench-tools
	$(SUDO) '$(dir $(BINARY))order' '$(BINARY)' > '$(TARGET_DIR)/order'
	mv '$(TARGET_DIR)/order' deploy/link/order

bench-pods: packages kubernetes ## Time Kubernetes pods with three networks, alone and with the daemon (needs root)
	RUSTFLAGS='$(RELEASE_FLAGS)' $(CARGO) bench --locked --target $(HOST) --bench pods

bench-nodes: packages kubernetes ## Time how soon a new node's pods are reached, of 3 nodes and of 1,000 (needs root)
	RUSTFLAGS='$(RELEASE_FLAGS)' $(CARGO) bench --locked --target $(HOST) --bench nodes

lint: ## rustfmt and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

build: ## The release binary, static: target/<host>/release/catena
	RUSTFLAGS='$(RELEASE_FLAGS)' $(CARGO) build --locked --release --target $(HOST)
	@echo 'Built $(BINARY)'

image: build ## The container image that deploy/ names, of the release binary alone
	mkdir -p '$(TARGET_DIR)/image' && cp '$(BINARY)' '$(TARGET_DIR)/image/catena'
	$(CONTAINER_ENGINE) build --file deploy/Containerfile --tag '$(IMAGE)' '$(TARGET_DIR)/image'

size: build ## See that the release binary has at most 12 MB
	@size=$$(stat --format %s '$(BINARY)'); echo "$(BINARY) has $$size bytes"; \
	if [ $$size -gt $(MAX_SIZE) ]; then \
		echo 'That is more than $(MAX_SIZE): see "What is linked" in ARCHITECTURE.md' >&2; exit 1; \
	fi

install: build ## Put the binary and the plugins' names into BIN_DIR (/opt/cni/bin)
	$(SUDO) $(BINARY) install --bin-dir '$(BIN_DIR)'

uninstall: build ## Put back what was in BIN_DIR before
	$(SUDO) $(BINARY) uninstall --bin-dir '$(BIN_DIR)'

packages: ## Install what demo and test need from Debian's packages
	tests/install-packages.sh

kubernetes: packages ## Build the API server and the kubelet that tests run, once on a machine
	tests/kubernetes/prepare.sh

emulated: packages ## Lay out the kernel of the machine that some tests emulate
	tests/emulated/prepare.sh

nextest: ## Install the test runner, if it isn't there
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest

clean: ## Remove everything that was built
	$(CARGO) clean
