# make demo    the main job on a private cluster, start to end
# make test    all tests, on real Slurm
# make lint    ruff, mypy, shellcheck, cppcheck, and the links of the documentation
# make bench   figures against a floor measured in the same run
# make docs    the documentation as a site, in build/docs; a broken link is an error
# make pages   what is made from the code anew: reference, manual page, completion
# make install PREFIX=/opt/slurm-fsx    the product alone
# make dist    a wheel, and one archive that nodes unpack: make dist SLURM_INCLUDES="FOLDER ..."
# With V=1 each command is printed.
ifndef V
MAKEFLAGS += --silent
endif

# Debian's own: users of the lab's nodes must be able to run it, and a home folder's may be closed to them.
PYTHON ?= /usr/bin/python3
PREFIX ?= /opt/slurm-fsx
VENV := .venv
SLURM_INCLUDES ?=
SOURCES := setup.cfg pyproject.toml $(shell find slurm_fsx_tools -name '*.py')
SPANK_SOURCES := $(wildcard spank/*.c spank/*.h spank/*.map spank/Makefile)
NODE_SCRIPTS := $(wildcard prolog.d/* epilog.d/* task_prolog.d/* scripts/*.sh)
PROGRAMS := $(wildcard libexec/*)
BOOTSTRAP := $(wildcard examples/parallelcluster/*.sh)
SHARED_FILES := $(shell find share -type f)
UNITS := $(wildcard share/systemd/*)

.PHONY: demo test lint docs pages bench dist install packages clean
.DELETE_ON_ERROR:

demo: packages $(VENV)/installed
	$(VENV)/bin/python -m lab.demo

test: packages $(VENV)/installed
	$(MAKE) --no-print-directory -C spank check BUILD=$(CURDIR)/build/spank
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: packages $(VENV)/installed docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	shellcheck --shell=sh $(filter %.sh,$(SHARED_FILES))
	shellcheck $(NODE_SCRIPTS) $(PROGRAMS) .ci/run lab/install-packages archive/install.sh $(BOOTSTRAP)
	$(MAKE) --no-print-directory -C spank lint BUILD=$(CURDIR)/build/spank

# From nothing each time, since Sphinx warns of a page only when it reads it.
docs: $(VENV)/tools
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet -d build/doctrees docs build/docs

pages: $(VENV)/tools
	$(VENV)/bin/python -m slurm_fsx_tools.cli.generated .

bench: packages $(VENV)/installed
	$(VENV)/bin/python -m bench

dist: $(VENV)/tools
	$(VENV)/bin/python -m archive dist $(SLURM_INCLUDES)

packages:
	@lab/install-packages

# Not editable: tests and demo run what a site would install, from where the nodes of the lab see it as /opt/slurm-fsx.
$(VENV)/installed: $(VENV)/tools $(SOURCES) $(SPANK_SOURCES) $(NODE_SCRIPTS) $(SHARED_FILES) $(PROGRAMS) bin/slurm-fsx
	echo "installing this checkout into $(VENV)"
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	rm -rf build/lib build/bdist.* *.egg-info
	$(call install_node_side,$(VENV))
	touch $@

$(VENV)/tools: setup.cfg | packages
	echo "making $(VENV), with the Python packages that setup.cfg names"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip setuptools wheel
	$(VENV)/bin/pip install --quiet '.[dev]'
	touch $@

install:
	@if [ -L "$(PREFIX)" ]; then \
		echo "make install: $(PREFIX) is a version from an archive: upgrade it by one (make dist), or remove the link" >&2; \
		exit 1; \
	fi
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet .
	$(call install_node_side,$(PREFIX))

# Everything in $(1) names PREFIX as its place: for the checkout's own environment, that is where the lab's nodes see it.
define install_node_side
	install -m 755 bin/slurm-fsx $(1)/bin/slurm-fsx
	sed -i '1s|/opt/slurm-fsx|$(PREFIX)|' $(1)/bin/slurm-fsx
	$(MAKE) --no-print-directory -C spank install BUILD=$(CURDIR)/build/spank LIBDIR=$(abspath $(1))/lib/slurm
	for script in $(NODE_SCRIPTS); do \
		install -D -m 755 "$$script" "$(1)/share/slurm-fsx/$$script" && \
		sed -i 's|^home=.*|home=$(PREFIX)|' "$(1)/share/slurm-fsx/$$script" || exit 1; \
	done
	for program in $(PROGRAMS); do \
		install -D -m 755 "$$program" "$(1)/$$program" && \
		sed -i 's|^home=.*|home=$(PREFIX)|' "$(1)/$$program" || exit 1; \
	done
	for file in $(SHARED_FILES); do \
		mode=644; if [ -x "$$file" ]; then mode=755; fi; \
		install -D -m "$$mode" "$$file" "$(1)/share/slurm-fsx/$${file#share/}" || exit 1; \
	done
	for unit in $(notdir $(UNITS)); do \
		sed -i 's|/opt/slurm-fsx|$(PREFIX)|g' "$(1)/share/slurm-fsx/systemd/$$unit" || exit 1; \
	done
	cd $(1) && for package in lib/python3.*/site-packages/slurm_fsx_tools; do \
		find $$package libexec share/slurm-fsx -type f ! -name '*.pyc' ! -name build-id | LC_ALL=C sort | xargs sha256sum | \
			sed 's|python3[0-9.]*||' | sha256sum | cut -c1-12 >$$package/build-id || exit 1; \
	done
endef

clean:
	rm -rf build spank/build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
