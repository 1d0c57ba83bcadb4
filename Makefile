# make demo    the main job on a private cluster, start to end
# make test    all tests, on real Slurm
# make lint    ruff, mypy, shellcheck, cppcheck
# make bench   figures against a floor measured in the same run
# make install PREFIX=/opt/slurm-fsx    the product alone

PYTHON ?= python3
PREFIX ?= /opt/slurm-fsx
VENV := .venv
PLUGIN := build/spank/spank_slurm_fsx.so
SOURCES := setup.cfg pyproject.toml $(shell find slurm_fsx_tools -name '*.py')
SPANK_SOURCES := $(wildcard spank/*.c spank/*.h spank/*.map spank/Makefile)
SCRIPTS := $(wildcard prolog.d/* epilog.d/* task_prolog.d/* .ci/run lab/install-packages)

.PHONY: demo test lint bench spank install packages clean
.DELETE_ON_ERROR:

demo: packages $(VENV)/installed $(PLUGIN)
	$(VENV)/bin/python -m lab.demo

test: packages $(VENV)/installed $(PLUGIN)
	$(MAKE) --no-print-directory -C spank check BUILD=$(CURDIR)/build/spank
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: packages $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	shellcheck $(SCRIPTS)
	$(MAKE) --no-print-directory -C spank lint BUILD=$(CURDIR)/build/spank

bench: packages $(VENV)/installed $(PLUGIN)
	$(VENV)/bin/python -m bench

spank: $(PLUGIN)

packages:
	@lab/install-packages

# Not editable: tests and demo run what a site would install.
$(VENV)/installed: $(SOURCES) $(VENV)/tools
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	rm -rf build/lib build/bdist.* *.egg-info
	touch $@

$(VENV)/tools: setup.cfg | packages
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip setuptools wheel
	$(VENV)/bin/pip install --quiet '.[dev]'
	touch $@

$(PLUGIN): $(SPANK_SOURCES) | packages
	$(MAKE) --no-print-directory -C spank BUILD=$(CURDIR)/build/spank

install:
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet .
	$(MAKE) --no-print-directory -C spank
	install -D -m 755 spank/build/spank_slurm_fsx.so $(PREFIX)/lib/slurm/spank_slurm_fsx.so
	for kind in prolog epilog task_prolog; do \
		install -d $(PREFIX)/share/slurm-fsx/$$kind.d && \
		for script in $$kind.d/*; do \
			sed 's|^home=.*|home=$(PREFIX)|' "$$script" >$(PREFIX)/share/slurm-fsx/$$script && \
			chmod 755 $(PREFIX)/share/slurm-fsx/$$script || exit 1; \
		done; \
	done

clean:
	rm -rf build spank/build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
