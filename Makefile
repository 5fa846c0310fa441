# SPDX-License-Identifier: Apache-2.0
#
# A short front of Meson. Results:
#   bin/linux/ARCH/scope          the tool: static, one file, the probe and the default scope.yml inside
#   lib/linux/ARCH/libscope.so    the probe alone
#
#   make [all]             builds
#   make run               builds, then shows on three small examples what scope does
#   make run CMD="ls -l"   the same for a command of yours
#   make test              builds, then runs every test
#   make bench             measures what observing costs (docs/HOWTO_TEST.md, "Benchmarks"); BEFORE=FILE: the last table
#                          also with another build's scope
#   make budget            counts the collector's instructions for a request of nginx, by stage (bench/budget)
#   make pairs             compares in short slices (bench/pairs); BEFORE=FILE: also with another build's scope
#   make install           PREFIX=/usr/local, DESTDIR=
#   make clean
#
# Variables: BUILD=build (build directory), NINJAFLAGS, BENCHFLAGS (bench/run --help), BEFORE (bench, budget, pairs).
# Missing build and test packages are installed by install_build_tools.sh (Debian, Ubuntu).

ARCH   := $(shell uname -m)
BUILD  ?= build
PREFIX ?= /usr/local
BIN    := bin/linux/$(ARCH)/scope
LIB    := lib/linux/$(ARCH)/libscope.so
CMD    ?=

export CMD

.PHONY: all run test bench budget pairs install clean
.NOTPARALLEL:

all:
	@./install_build_tools.sh --build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) -Dtests=false
	@ninja -C $(BUILD) $(NINJAFLAGS) src/cli/scope src/probe/libscope.so
	@cmp -s $(BUILD)/src/cli/scope $(BIN) || install -D -m 755 $(BUILD)/src/cli/scope $(BIN)
	@cmp -s $(BUILD)/src/probe/libscope.so $(LIB) || install -D -m 755 $(BUILD)/src/probe/libscope.so $(LIB)

run: all
	@dev/demo $(BIN)

test: all
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

clean:
	rm -rf $(BUILD) build-asan build-fuzz build-fuzz.log build-tidy bin lib
