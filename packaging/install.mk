# SPDX-License-Identifier: GPL-3.0-or-later
# `make install`, `make uninstall`, and the parts of it that the rpm packages consist of. Included by the Makefile;
# needs nothing but make, install, sed and Python itself. Where things go can be said one by one, and is for
# PREFIX=/usr where a distribution's packages have it.

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec
UNITDIR ?= $(PREFIX)/lib/systemd/system
UDEVDIR ?= $(PREFIX)/lib/udev/rules.d
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
MANDIR ?= $(PREFIX)/share/man/man1
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
SYSCONFDIR ?= /etc
# Whatever the prefix: KStars and INDI Web Manager look here and nowhere else.
INDIDATADIR ?= /usr/share/indi
# Unless PYTHON is given it is the system's, which has the distribution's pyserial. `python3` on a user's PATH may be
# another: pyenv's, conda's or a virtual environment's.
SYSTEM_PYTHON := $(if $(filter file,$(origin PYTHON)),$(wildcard /usr/bin/python3))
INTERPRETER := $(shell command -v $(firstword $(SYSTEM_PYTHON) $(PYTHON)))
# The folder in PREFIX that this Python searches for packages.
SITELIB ?= $(if $(INTERPRETER),$(shell $(INTERPRETER) packaging/sitelib.py "$(PREFIX)"))

COPY = install -D -p -m 0644
MODULES := $(shell find indi_multifocus focus_cli -name '*.py')
# The import paths of the observatory's scripts, of both generations.
IMPORT_PATHS := warwick/observatory/multifocus rockit/focuser/multichannel
# What is made from a template: paths and names filled in.
FILLED = sed -e 's|/usr/bin/|$(BINDIR)/|g' -e 's|/usr/libexec/|$(LIBEXECDIR)/|g' \
    -e 's|/etc/focusd/|$(SYSCONFDIR)/focusd/|g' -e 's|@PYTHON@|$(INTERPRETER)|g' -e 's|@SITELIB@|$(SITELIB)|g'

# $(call command,name,module)
define command
	install -d $(DESTDIR)$(BINDIR)
	$(FILLED) -e 's|@NAME@|$(1)|g' -e 's|@MODULE@|$(2)|g' packaging/command.in > $(DESTDIR)$(BINDIR)/$(1)
	chmod 0755 $(DESTDIR)$(BINDIR)/$(1)
endef

install: check-install install-python install-server install-client ## into PREFIX (/usr/local), below DESTDIR
	# Else every start of the driver would compile it all: its user cannot write there. (rpm does this by itself.)
	$(INTERPRETER) -m compileall -q $(if $(DESTDIR),-s $(DESTDIR) -p /) \
	    $(addprefix $(DESTDIR)$(SITELIB)/,indi_multifocus focus_cli $(IMPORT_PATHS))
	@[ -n "$(DESTDIR)" ] || sh packaging/after-install.sh "$(INTERPRETER)"

check-install:
	@sh packaging/before-install.sh "$(INTERPRETER)" $(addprefix $(DESTDIR),$(BINDIR) $(SITELIB) $(SYSCONFDIR) $(INDIDATADIR))

install-python: check-install
	for file in $(MODULES); do $(COPY) $$file $(DESTDIR)$(SITELIB)/$$file || exit; done
	for path in $(IMPORT_PATHS); do \
	    install -d $(DESTDIR)$(SITELIB)/$$path && \
	    install -p -m 0644 packaging/python/$$path/*.py $(DESTDIR)$(SITELIB)/$$path || exit; \
	done
	# The INDI server that focusd starts runs the driver by this.
	install -p -m 0755 focus_cli/indi_multifocus $(DESTDIR)$(SITELIB)/focus_cli/indi_multifocus

install-server:
	$(call command,indi_multifocus,indi_multifocus.__main__)
	$(call command,focusd,focus_cli.focusd)
	install -d $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/focusd
	$(FILLED) packaging/indi-multifocus-server.in > $(DESTDIR)$(LIBEXECDIR)/indi-multifocus-server
	chmod 0755 $(DESTDIR)$(LIBEXECDIR)/indi-multifocus-server
	for unit in focusd@ indi-multifocus@; do \
	    $(FILLED) packaging/systemd/$$unit.service > $(DESTDIR)$(UNITDIR)/$$unit.service || exit; \
	    chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit.service; \
	done
	# The successor generation's names of command and unit.
	ln -sf focusd $(DESTDIR)$(BINDIR)/multichannel_focusd
	ln -sf focusd@.service $(DESTDIR)$(UNITDIR)/multichannel_focusd@.service
	$(COPY) packaging/sysusers/focusd.conf $(DESTDIR)$(SYSUSERSDIR)/focusd.conf
	$(COPY) packaging/udev/60-multifocus.rules $(DESTDIR)$(UDEVDIR)/60-multifocus.rules
	$(COPY) xml/indi_multifocus.xml $(DESTDIR)$(INDIDATADIR)/indi_multifocus.xml
	for page in indi_multifocus focusd; do \
	    $(COPY) packaging/man/$$page.1 $(DESTDIR)$(MANDIR)/$$page.1 || exit; \
	done
	ln -sf focusd.1 $(DESTDIR)$(MANDIR)/multichannel_focusd.1

install-client:
	$(call command,focus,focus_cli.focus)
	$(COPY) packaging/completion/focus $(DESTDIR)$(COMPLETIONDIR)/focus
	$(COPY) packaging/completion/_focus $(DESTDIR)$(ZSHDIR)/_focus
	$(COPY) packaging/completion/focus.fish $(DESTDIR)$(FISHDIR)/focus.fish
	$(COPY) packaging/man/focus.1 $(DESTDIR)$(MANDIR)/focus.1

install-clasp:
	$(COPY) clasp.json $(DESTDIR)$(SYSCONFDIR)/focusd/clasp.json
	$(COPY) packaging/udev/61-clasp-focuser.rules $(DESTDIR)$(UDEVDIR)/61-clasp-focuser.rules

install-portable:
	$(COPY) portable.json $(DESTDIR)$(SYSCONFDIR)/focusd/portable.json
	$(COPY) packaging/udev/61-portable-focuser.rules $(DESTDIR)$(UDEVDIR)/61-portable-focuser.rules

# What may be empty when it is uninstalled; each folder before the one that it is in. The first folders of /usr and
# /usr/local are the system's.
EMPTIED = $(addprefix $(SITELIB)/,warwick/observatory warwick rockit/focuser rockit) $(SYSCONFDIR)/focusd \
    $(INDIDATADIR) $(LIBEXECDIR) $(SYSUSERSDIR) \
    $(foreach folder,$(UNITDIR) $(UDEVDIR) $(COMPLETIONDIR) $(ZSHDIR) $(FISHDIR) $(MANDIR),$(folder) $(patsubst %/,%,$(dir $(folder)))) \
    $(if $(filter /usr /usr/local,$(PREFIX)),,$(SITELIB) $(patsubst %/,%,$(dir $(SITELIB))) \
        $(BINDIR) $(PREFIX)/lib $(PREFIX)/share $(filter $(PREFIX)/%,$(SYSCONFDIR)) $(PREFIX))

uninstall: ## remove what install has put there; configurations and saved positions stay
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,indi_multifocus focusd multichannel_focusd focus) \
	    $(DESTDIR)$(LIBEXECDIR)/indi-multifocus-server \
	    $(addprefix $(DESTDIR)$(UNITDIR)/,focusd@.service multichannel_focusd@.service \
	        indi-multifocus@.service) \
	    $(DESTDIR)$(SYSUSERSDIR)/focusd.conf $(DESTDIR)$(UDEVDIR)/60-multifocus.rules \
	    $(DESTDIR)$(INDIDATADIR)/indi_multifocus.xml $(DESTDIR)$(COMPLETIONDIR)/focus \
	    $(DESTDIR)$(ZSHDIR)/_focus $(DESTDIR)$(FISHDIR)/focus.fish \
	    $(addprefix $(DESTDIR)$(MANDIR)/,indi_multifocus.1 focusd.1 multichannel_focusd.1 focus.1)
	rm -rf $(addprefix $(DESTDIR)$(SITELIB)/,indi_multifocus focus_cli $(IMPORT_PATHS))
	# These may hold what is others'.
	@for folder in $(EMPTIED); do rmdir $(DESTDIR)$$folder 2>/dev/null || true; done

PACKAGE_FILES := Makefile setup.cfg pyproject.toml README.md LICENSE CHANGELOG.md clasp.json portable.json test.json \
    indi_multifocus focus_cli packaging xml docs
# Where they are built, and where they are put.
RPM_BUILD ?= build/rpm
RPM_DIR ?= dist
# On Debian what the packages need is there, but not as rpm packages.
RPM_FLAGS ?= $(if $(wildcard /etc/debian_version),--nodeps)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' indi_multifocus/__init__.py)

rpm: ## the five rpm packages, into dist/
	@command -v rpmbuild >/dev/null || { echo "make rpm: install rpm-build (on Debian: rpm)" >&2; exit 1; }
	rm -rf $(RPM_BUILD)
	mkdir -p $(RPM_BUILD)/SOURCES $(RPM_BUILD)/SPECS $(RPM_DIR)
	tar --create --gzip --file $(RPM_BUILD)/SOURCES/indi_multifocus-$(VERSION).tar.gz --sort=name --owner=0 --group=0 \
	    --exclude=__pycache__ --transform 's|^|indi_multifocus-$(VERSION)/|' $(PACKAGE_FILES)
	for spec in $(notdir $(wildcard packaging/rpm/*.spec)); do \
	    sed 's|@VERSION@|$(VERSION)|' packaging/rpm/$$spec > $(RPM_BUILD)/SPECS/$$spec && \
	    rpmbuild -ba --define "_topdir $(abspath $(RPM_BUILD))" $(RPM_FLAGS) $(RPM_BUILD)/SPECS/$$spec || exit; \
	done
	cp $(RPM_BUILD)/RPMS/noarch/*.rpm $(RPM_BUILD)/SRPMS/*.rpm $(RPM_DIR)/
	rm -rf $(RPM_BUILD)

# Where they are built, where they are put, and the version that they get.
DEB_BUILD ?= build/deb
DEB_DIR ?= dist
DEB_VERSION ?= $(VERSION)-1
DEB_SOURCE = $(DEB_BUILD)/indi-multifocus

deb: ## the three Debian packages, into dist/
	@command -v dpkg-buildpackage >/dev/null && command -v dh >/dev/null && command -v dh_python3 >/dev/null || \
	    { echo "make deb: as root, apt-get install --no-install-recommends dpkg-dev debhelper dh-python" >&2; exit 1; }
	rm -rf $(DEB_BUILD)
	mkdir -p $(DEB_SOURCE) $(DEB_DIR)
	tar --create --exclude=__pycache__ $(PACKAGE_FILES) | tar --extract --directory $(DEB_SOURCE)
	cp -r packaging/debian $(DEB_SOURCE)/debian
	sed -e 's|@VERSION@|$(DEB_VERSION)|' -e "s|@DATE@|$$(date -R)|" packaging/debian/changelog.in > $(DEB_SOURCE)/debian/changelog
	rm $(DEB_SOURCE)/debian/changelog.in
	cd $(DEB_SOURCE) && dpkg-buildpackage --build=binary --no-sign $(DEB_FLAGS)
	cp $(DEB_BUILD)/*.deb $(DEB_DIR)/
	[ -n "$(DEB_KEEP)" ] || rm -rf $(DEB_BUILD)

.PHONY: deb install check-install install-python install-server install-client install-clasp install-portable uninstall rpm
