# A thin front over Meson and Ninja: `make help` lists what there is to ask for.

BUILD  ?= build
ASAN   := build-asan
TSAN   := build-tsan
PYTHON := /usr/bin/python3
NINJA  := ninja $(NINJAFLAGS)
GUEST  := $(BUILD)/guest

# What `make run` boots; override on the command line: make run MEMORY=1G CPUS=4 ARGS='--trace int'
MEMORY ?= 512M
CPUS   ?= 1
APPEND ?= console=ttyS0
ARGS   ?=

# Further words for tests/run.py: make check TESTS='--only unit'
TESTS  ?=

.PHONY: all run check check-long check-short-long bench fuzz format clean distclean help setup-build guest

all: setup-build $(BUILD)/build.ninja ## build build/plastron, optimised, and its manual page (the default)
	$(NINJA) -C $(BUILD) plastron plastron.1

run: ## install what is missing, build, and boot a Linux guest to a shell on this terminal (Ctrl-A X leaves)
	@tools/setup.sh build guest
	@$(MAKE) --no-print-directory all
	@tools/guest/make-guest.sh $(GUEST) small
	$(BUILD)/plastron run --kernel $(GUEST)/vmlinuz --initrd $(GUEST)/initrd.img --append "$(APPEND)" \
	    --memory $(MEMORY) --cpus $(CPUS) $(ARGS)

check: ## install what is missing, build, and run every test (under 15 minutes on 2 cores)
	@tools/setup.sh build guest check
	@$(MAKE) --no-print-directory all $(ASAN)/build.ninja
	$(PYTHON) tests/run.py --build $(BUILD) --asan $(ASAN) --tsan $(TSAN) --level check $(TESTS)

check-long: ## the slow suites: everything under ASan and UBSan, TSan, minutes of fuzzing, Linux's own self-tests
	@tools/setup.sh build guest check
	@$(MAKE) --no-print-directory all $(ASAN)/build.ninja $(TSAN)/build.ninja
	$(PYTHON) tests/run.py --build $(BUILD) --asan $(ASAN) --tsan $(TSAN) --level long $(TESTS)

check-short-long: ## the short form of check-long that .ci/run uses: unit tests under ASan, UBSan and TSan
	@tools/setup.sh build check
	@$(MAKE) --no-print-directory $(ASAN)/build.ninja $(TSAN)/build.ninja
	$(PYTHON) tests/run.py --build $(BUILD) --asan $(ASAN) --tsan $(TSAN) --level short-long $(TESTS)

bench: ## measure beside QEMU and the host (ARGS='--quick', '--bochs', '--help'); table here, JSON in build/bench.json
	@tools/setup.sh build guest
	@tools/setup.sh bench || echo "Going on with the peers that are installed."
	@$(MAKE) --no-print-directory all
	@tools/guest/make-guest.sh $(GUEST) small bench
	$(PYTHON) bench/run.py --build $(BUILD) $(ARGS)

fuzz: ## fuzz for longer: make fuzz SECONDS=600 TARGET=fuzz_decode
	@tools/setup.sh build check
	@$(MAKE) --no-print-directory $(ASAN)/build.ninja
	$(PYTHON) fuzz/run.py --build $(ASAN) --seconds $(or $(SECONDS),60) $(TARGET)

guest: ## prepare all guests under build/guest (Debian kernels, initramfs, root disk; no root needed)
	@tools/guest/make-guest.sh $(GUEST)

format: ## lay out all C files with clang-format
	git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

clean: ## remove what was built; the prepared guests stay
	rm -rf $(ASAN) $(TSAN)
	[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name guest -exec rm -rf {} +

distclean: ## remove the guests too
	rm -rf $(BUILD) $(ASAN) $(TSAN)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Plain `make` installs nothing: it says what is missing.
setup-build:
	@tools/setup.sh --check build

$(BUILD)/build.ninja:
	meson setup $(BUILD)

$(ASAN)/build.ninja:
	CC=clang meson setup $(ASAN) -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false

$(TSAN)/build.ninja:
	CC=clang meson setup $(TSAN) -Db_sanitize=thread -Db_lundef=false
