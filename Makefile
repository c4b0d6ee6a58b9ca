# make bench   install, build the agent, measure the shipped model on this machine
# make test    install what the tests need, then lint, type-check and test
# make lab     tests of faults, verdicts, energy, calibration and tuning on virtual boards, which take minutes (needs root)
# make lab-full  the tests on emulated boards, which boot the kernel and drivers of a real one (downloads 207 MB once)
# make benchmark  our kernels and whole models beside other libraries' (harness/README.md, Peers): an hour on a quiet machine
# make install the virtual environment alone

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests need an Arm emulator (twice: the static one runs on virtual boards, the other counts), LLVM's models of cores, an
# SSH server, a browser and its driver, a symbol reader, a compiler with sanitizers, sudo to check its files, and what
# virtual boards and their broken networks are made of (they need root).
TEST_PACKAGES := qemu-user-static openssh-server openssh-client chromium chromium-driver binutils g++ busybox procps sudo \
	iproute2 nftables util-linux mount qemu-user llvm-19

# What builds and runs an emulated board: devices/virtual/full/README.md.
LAB_FULL_PACKAGES := qemu-system-arm gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu device-tree-compiler make \
	xz-utils debian-archive-keyring qemu-user llvm-19

# Files that take minutes each: last, one of them would run alone.
LONG_TESTS := tests/test_end_to_end.py tests/kernels/test_sanitizers.py

.PHONY: bench benchmark test lab lab-full install lint clean

bench: $(VENV)/.installed
	$(BIN)/bench build
	$(BIN)/bench --device local

benchmark: $(VENV)/.installed-peers
	$(BIN)/bench kernels --peers --bits 2,3,4,5,6,8,16 --shape 4096x4096 --m 1 --m 128 --launches 8
	$(BIN)/bench models --peers --threads 1
	$(BIN)/bench models --peers --threads 2

test: $(VENV)/.installed-test
	.ci/apt-install $(TEST_PACKAGES)
	$(MAKE) --jobs 3 --output-sync lint agent-x86_64-linux agent-aarch64-linux
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(LONG_TESTS) tests

lab: $(VENV)/.installed-test
	.ci/apt-install $(TEST_PACKAGES)
	$(BIN)/python -m pytest -m lab

lab-full: $(VENV)/.installed-test
	.ci/apt-install $(LAB_FULL_PACKAGES)
	$(BIN)/python -m pytest -m full

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What tests take from the cache. The compiler makes its C++ library for each, on one core.
agent-%: $(VENV)/.installed-test
	$(BIN)/bench build $*

install: $(VENV)/.installed

# Debian's python3 can make environments only with python3-venv.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/apt-install python3-venv
	$(PYTHON) -m venv $(VENV)

# A plain torch pulls gigabytes of CUDA packages: constraints.txt names the build that we tested.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable '.[test,export]'
	touch $@

# llama.cpp is compiled for this machine, as whoever wants it fast would have it.
$(VENV)/.installed-peers: $(VENV)/.installed
	.ci/apt-install g++
	CMAKE_ARGS=-DGGML_NATIVE=ON $(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable '.[peers]'
	touch $@

clean:
	rm -rf $(VENV) build site .pytest_cache .mypy_cache .ruff_cache
