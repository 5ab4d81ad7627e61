# demo: the main job for real     test: every test, the lab's stories included     bench: medians from one run
# plugins: the providers          lint: format and clippy                          setup: what the lab needs
# soak: 500 jobs, nothing left

SHARE := target/share/fleetling
# Unlike the machine's triple, always named: proc macros are then not built with the flags of a static binary.
STATIC := x86_64-unknown-linux-gnu
# The plugins that stand beside the binary.
SHIPPED := aws static

.PHONY: demo test plugins python-provider soak bench lint setup build parts helper helper-image images-trixie

demo: setup parts build
	@echo '==> demo'
	@cargo build --quiet -p fleetling-lab --bin demo
	@target/debug/demo

# The fast tests first: they need neither Docker nor network.
test: setup parts build python-provider
	@echo '==> fast tests'
	FLEETLING_EVERY_SHELL=1 cargo test
	cargo test -p fleetling-plugin-sdk --features xml
	cargo test -p fleeting-plugin-aws -p fleeting-plugin-static -p fleeting-plugin-template
	@echo '==> stories'
	cargo test -p fleetling-lab --features stories -- --test-threads=3

# Five hundred short jobs over six instances; a few of them are among the stories.
soak: setup parts build
	FLEETLING_SOAK_JOBS=$${FLEETLING_SOAK_JOBS:-500} cargo test -p fleetling-lab --features stories --test stories soak:: -- --nocapture

bench: setup parts
	@echo '==> bench: the release build takes minutes the first time'
	cargo build --release -p fleetling -p fleetling-lab --features fleetling-lab/bench --bin fleetling --bin bench
	@target/release/bench

lint:
	@echo '==> lint'
	cargo fmt --check
	cargo clippy --workspace --all-targets --features fleetling-lab/stories,fleetling-lab/bench,fleetling-plugin-sdk/xml,fleetling-plugin-sdk/record \
	  -- -D warnings

build:
	@echo '==> the manager'
	@cargo build -p fleetling

# What stands beside the binary in an installation.
parts: plugins helper helper-image

plugins:
	@echo '==> plugins'
	@plugins/tools/wasm-target.sh
	@cargo build --quiet $(SHIPPED:%=-p fleeting-plugin-%) --target wasm32-wasip2 --profile plugin
	@mkdir -p $(SHARE)/plugins
	@set -e; for name in $(SHIPPED); do \
	  install -m 644 target/wasm32-wasip2/plugin/fleeting_plugin_$$name.wasm $(SHARE)/plugins/fleeting-plugin-$$name.wasm; \
	  printf '[[plugin]]\nname = "%s"\nsha256 = "%s"\n' $$name \
	    "$$(sha256sum $(SHARE)/plugins/fleeting-plugin-$$name.wasm | cut -d' ' -f1)"; \
	done >$(SHARE)/shipped.toml

# A provider in another language, for the story that runs it; not shipped.
python-provider:
	@echo '==> the provider in Python'
	@tests/setup/python-provider.sh

helper:
	@echo '==> the helper'
	@mkdir -p $(SHARE)
	@RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet -p fleetling-helper --profile helper --target $(STATIC)
	@install -m 755 target/$(STATIC)/helper/fleetling-helper $(SHARE)/helper-x86_64

# With the helper in it. Built under Debian's name for the architecture, installed under the kernel's.
helper-image: helper
	@echo '==> the helper image'
	@host/helper/image/build.sh target/helper-image $(SHARE)/helper-x86_64
	@for part in tar.gz id; do install -m 644 target/helper-image/helper-image-amd64.$$part $(SHARE)/helper-image-x86_64.$$part; done

# Idempotent; a second run needs no network.
setup:
	@echo '==> setup'
	@tests/setup/tools.sh
	@tests/setup/engine.sh
	@tests/setup/moto.sh
	@tests/setup/images.sh

# Instances on Debian 13; then FLEETLING_LAB_INSTANCE=trixie make test
images-trixie: setup
	@tests/setup/images.sh trixie
