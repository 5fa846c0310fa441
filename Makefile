# SPDX-License-Identifier: Apache-2.0
#
# A short front of Meson. Results:
#   bin/linux/ARCH/scope          the tool: static, one file, the probe and the default scope.yml inside
#   lib/linux/ARCH/libscope.so    the probe alone
#
#   make [all]             builds; ARCH=aarch64: for another architecture (dev/cross)
#   make run               builds, then shows on three small examples what scope does
#   make run CMD="ls -l"   the same for a command of yours
#   make test              builds, then runs every test
#   make test-arm64        on another architecture: builds for arm64 and runs its unit tests, and chosen whole-program tests in
#                          an emulated machine (tests/arm64); test-arm64-full: every test (hours)
#   make bench             measures what observing costs (docs/HOWTO_TEST.md, "Benchmarks"); BEFORE=FILE: the last table
#                          also with another build's scope
#   make budget            counts the collector's instructions for a request of nginx, by stage (bench/budget)
#   make pairs             compares in short slices (bench/pairs); BEFORE=FILE: also with another build's scope
#   make install           PREFIX=/usr/local, DESTDIR=
#   make image             builds, then writes build/image/scope-ARCH.tar, an image for docker, podman and the like that has
#                          scope and nothing else (docs/containers.md); IMAGE=NAME[:TAG]: what it is called
#   make images            the same for all architectures together, in build/image/scope.tar: one name, from which each
#                          machine gets its own
#   make lambda-layer      builds, then writes build/lambda/scope-lambda-ARCH.zip, a layer for AWS Lambda (docs/lambda.md)
#   make build             `make all` in a container, for people who don't want to install anything (dev/builder);
#                          CMD="make image": another command, ARCH=aarch64: for another architecture, ENGINE=docker, BASE=
#   make clean
#
# Variables: BUILD=build (build directory; build-ARCH for another architecture), NINJAFLAGS, BENCHFLAGS (bench/run --help), BEFORE (bench, budget, pairs).
# Missing build and test packages are installed by install_build_tools.sh (Debian, Ubuntu).

HOST   := $(shell uname -m)
ARCH   ?= $(HOST)
BUILD  ?= $(if $(filter $(HOST),$(ARCH)),build,build-$(ARCH))
PREFIX ?= /usr/local
BIN    := bin/linux/$(ARCH)/scope
LIB    := lib/linux/$(ARCH)/libscope.so
CMD    ?=
IMAGE  ?= cribl/scope

export CMD

.PHONY: all run test cross-arm64 test-arm64 test-arm64-full bench budget pairs install image images lambda-layer build clean
.NOTPARALLEL:

# Of another architecture: headers and libraries in the build directory, Debian's cross compiler.
CROSS := $(if $(filter $(HOST),$(ARCH)),,--cross-file $(BUILD)/cross.ini)

all:
	@./install_build_tools.sh --build $(if $(CROSS),--cross $(ARCH))
	$(if $(CROSS),@dev/cross/sysroot $(ARCH) $(BUILD)/sysroot)
	$(if $(CROSS),@dev/cross/cross-file $(ARCH) $(BUILD)/sysroot >$(BUILD)/cross.ini)
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) $(CROSS) -Dtests=false
	@ninja -C $(BUILD) $(NINJAFLAGS) src/cli/scope src/probe/libscope.so
	@cmp -s $(BUILD)/src/cli/scope $(BIN) || install -D -m 755 $(BUILD)/src/cli/scope $(BIN)
	@cmp -s $(BUILD)/src/probe/libscope.so $(LIB) || install -D -m 755 $(BUILD)/src/probe/libscope.so $(LIB)

run: all
	@dev/demo $(BIN)

# What tests/arm64 tests, where it is another architecture.
ARM64 := $(if $(filter aarch64,$(HOST)),,cross-arm64)
cross-arm64:
	@./install_build_tools.sh --cross aarch64
	@$(MAKE) --no-print-directory ARCH=aarch64 BUILD=build-aarch64 all

test-arm64: $(ARM64)
	@tests/arm64

test-arm64-full: $(ARM64)
	@tests/arm64 --full

test: all $(ARM64)
	@./install_build_tools.sh
	@meson configure $(BUILD) -Dtests=true
	@tests/all $(BUILD)

bench: all
	@./install_build_tools.sh
	@ninja -C $(BUILD) $(NINJAFLAGS) bench-programs
	@rc=0; bench/run --scope $(BIN) --programs $(BUILD)/bench $(BENCHFLAGS) || rc=$$?; \
	test -n "$(BENCHFLAGS)" || bench/otlp --scope $(BIN) --programs $(BUILD)/bench || rc=$$?; \
	test -n "$(BENCHFLAGS)" || bench/marks --scope $(BIN) --programs $(BUILD)/bench $(if $(BEFORE),--before $(BEFORE)) || rc=$$?; \
	exit $$rc

budget: all
	@./install_build_tools.sh
	@bench/budget --scope $(BIN) $(if $(BEFORE),--before $(BEFORE)) $(BENCHFLAGS)

pairs: all
	@./install_build_tools.sh
	@ninja -C $(BUILD) $(NINJAFLAGS) bench-programs
	@bench/pairs --scope $(BIN) --programs $(BUILD)/bench $(if $(BEFORE),--before $(BEFORE)) $(BENCHFLAGS)

install: all
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(DESTDIR))

image: all
	@dev/image --scope $(BIN) --arch $(ARCH) --name $(IMAGE) --output $(BUILD)/image/scope-$(ARCH).tar

images:
	@for arch in x86_64 aarch64; do $(MAKE) ARCH=$$arch all || exit 1; done
	@dev/image --arch x86_64,aarch64 --name $(IMAGE)

lambda-layer: all
	@dev/lambda-layer --scope $(BIN) --arch $(ARCH)

build:
	@dev/builder --arch $(ARCH) "$${CMD:-make all}"

clean:
	rm -rf $(BUILD) build-aarch64 build-asan build-fuzz build-fuzz.log build-tidy bin lib
