# SPDX-License-Identifier: GPL-3.0-or-later
# The two commands are `make run` and `make test`; each does its own set-up first.

PYTHON ?= python3
BIN := .venv/bin
# The environment is made anew when the project's metadata changes or another PYTHON is asked for.
READY := .venv/ready-$(subst /,_,$(PYTHON))
SOURCES := $(wildcard indi_multifocus focus_cli packaging/python/warwick packaging/python/rockit tools tests)

.DEFAULT_GOAL := help
# docs is also a folder.
.PHONY: help run test coverage test-packages test-pythons test-systems test-kstars kstars-is-there rehearse pictures pictures-focus bench docs faults soak fuzz lint clean setup

help: ## show this list
	@echo "make run    serve a simulated controller by INDI on port 7624 and by focusd, until Ctrl-C"
	@echo "            PORT=/dev/ttyACM0 make run   the real controller on that port"
	@echo "            GENERATION=1|2 CHANNELS=n SPEED=x   of the simulated controller (2, 2, 1)"
	@echo "            INDI_PORT=n FOCUSD_PORT=n   other TCP ports than 7624 and 9000"
	@echo "make test   ruff, mypy and all tests"
	@echo "make coverage   all tests, and what of the code they run"
	@echo "make test-packages   the tests that build and install: rpm, systemd, udev, INDI Web Manager, several machines"
	@echo "make test-pythons    the unit tests by Python 3.9 to 3.14 (PYTHONS='3.9 3.14'), where uv or pyenv has them"
	@echo "make test-systems    make run, make test, packages and pip on fresh Debians (SYSTEMS='bullseye bookworm trixie'; root)"
	@echo "make faults     thousands of schedules of faults, and the table of docs/reliability.md (FAULT_SECONDS=300)"
	@echo "make soak       memory over a million status polls, for docs/reliability.md (SOAK_POLLS=1000000 SOAK_CALLS=100000)"
	@echo "make fuzz       coverage-guided fuzzing of whatever comes in (FUZZ_SECONDS=60 a target)"
	@echo "make bench      latencies, start and memory beside indi_moonlite_focus (BENCH_FLAGS='--quick --plot out.png')"
	@echo "make docs       the reference of INDI properties, docs/indi-properties.md, from what the driver defines"
	@echo "                the states of a position in docs/architecture.md, from the table of transitions,"
	@echo "                and the man pages and completion, from what focus_cli/manual.py says"
	@echo "make lint   ruff and mypy alone"
	@echo "make setup  what the others do first: system packages and .venv (PYTHON=python3)"
	@echo "make install    driver, focusd and focus into PREFIX (/usr/local), below DESTDIR if given; make uninstall"
	@echo "make deb        the three Debian packages, into dist"
	@echo "make rpm        the five rpm packages, into dist"
	@echo "make test-kstars   a real KStars uses the driver, in a virtual display (installs KStars)"
	@echo "make rehearse      its Ekos focuses a simulated telescope (REHEARSE='abort cable', or all, for more than that)"
	@echo "make pictures      the pictures of docs/images, by both and by make pictures-focus"
	@echo "make pictures-focus   those of 'focus watch' and 'focus log --plot', from twenty minutes of simulated focusing"
	@echo "make clean  remove .venv and whatever else was made here"

run: $(READY)
	@exec $(BIN)/python tools/run.py

# Tests wait most of the time, so several run at once, and those that do not are last: PYTEST_FLAGS="-n 0" for one after
# the other.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

test: lint
	$(PYTEST) -m "not packages and not alone" $(PYTEST_FLAGS)
	$(BIN)/python -m pytest -m alone $(PYTEST_FLAGS)

coverage: $(READY)
	$(PYTEST) --cov --cov-report=term $(PYTEST_FLAGS)

faults: $(READY) ## exit status 1 when anything went wrong
	$(BIN)/python -m tools.faults

soak: $(READY) ## exit status 1 when memory grew
	$(BIN)/python -m tools.faults.soak

# The driver as `make install` installs it, by Debian's Python, like the driver beside it.
BENCH := $(CURDIR)/build/bench
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))

bench: $(READY)
	@$(BIN)/python -c "import matplotlib" 2>/dev/null || $(BIN)/python -m pip install -q -e ".[bench]"
	@$(MAKE) -s install DESTDIR=/ PREFIX=$(BENCH) INDIDATADIR=$(BENCH)/indi SYSCONFDIR=$(BENCH)/etc PYTHON=$(BENCH_PYTHON)
	@site=$$($(BENCH_PYTHON) packaging/sitelib.py $(BENCH)); test -d $$site/msgspec || \
	    $(BIN)/python -m pip --python $(BENCH_PYTHON) install -q --target $$site --upgrade msgspec pyserial
	DRIVER=$${DRIVER:-$(BENCH)/bin/indi_multifocus} $(BIN)/python -m tools.bench $(BENCH_FLAGS)

docs: $(READY)
	$(BIN)/python -m tools.property_reference
	$(BIN)/python -m tools.position_states
	$(BIN)/python -m tools.manual

fuzz: $(READY)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install -q -e ".[fuzz]"
	$(BIN)/python -m tools.fuzz

test-packages: $(READY)
	@sh packaging/setup-tests.sh
	$(BIN)/python -m pytest -m packages $(PYTEST_FLAGS) tests/packaging

test-pythons: $(READY) ## exit status 1 when the tests of one failed
	@sh tools/pythons.sh

test-systems: $(READY) ## exit status 1 when anything failed
	@command -v debootstrap >/dev/null || $$(test $$(id -u) = 0 || echo sudo) apt-get -q -y install debootstrap
	$(BIN)/python -m tools.systems $(SYSTEMS)

KSTARS = $(READY) kstars-is-there

test-kstars: $(KSTARS) ## exit status 1 when KStars does not use the driver as it should
	$(BIN)/python tests/kstars/run_kstars.py build/kstars

rehearse: $(KSTARS) ## exit status 1 when an autofocus does not converge
	$(BIN)/python -m tools.rehearse $(REHEARSE)

pictures: $(KSTARS) pictures-focus ## into docs/images
	$(BIN)/python tests/kstars/run_kstars.py docs/images
	$(BIN)/python -m tools.rehearse --pictures docs/images converge

pictures-focus: $(READY)
	@$(BIN)/python -c "import matplotlib" 2>/dev/null || $(BIN)/python -m pip install -q -e ".[plot]"
	$(BIN)/python -m tools.evening docs/images

kstars-is-there: $(READY)
	@for program in kstars Xvfb xdotool import dbus-daemon; do command -v $$program >/dev/null || missing=1; done; \
	    test -z "$$missing" || $$(test $$(id -u) = 0 || echo sudo) apt-get -q -y install --no-install-recommends \
	    kstars xvfb xdotool imagemagick dbus breeze-icon-theme
	@$(BIN)/python -c "import dbus, matplotlib" 2>/dev/null || { \
	    pkg-config --exists dbus-1 glib-2.0 && command -v cc >/dev/null || $$(test $$(id -u) = 0 || echo sudo) apt-get \
	    -q -y install --no-install-recommends gcc libc6-dev pkg-config libdbus-1-dev libglib2.0-dev python3-dev; \
	    $(BIN)/python -m pip install -q -e ".[kstars]"; }

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(SOURCES)

setup: $(READY)

$(READY): setup.cfg pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" READY="$@" sh tools/setup.sh

include packaging/install.mk

clean:
	rm -rf .venv build dist *.egg-info .coverage .coverage.* htmlcov \
	    .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
