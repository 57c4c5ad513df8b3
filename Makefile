# `make` lists the targets. A virtual environment in .venv holds everything of Python, tools/need installs the rest.
PYTHON := .venv/bin/python
RPM_NEEDS := rpmbuild:rpm
LAB_NEEDS := ip:iproute2 nft:nftables unshare:util-linux haproxy:haproxy keepalived:keepalived
ETCD_NEEDS := etcd:etcd-server etcdctl:etcd-client
TEST_NEEDS := $(LAB_NEEDS) $(ETCD_NEEDS) $(RPM_NEEDS) iptables-legacy:iptables zsh:zsh fish:fish ping:iputils-ping bird:bird2 tshark:tshark vtysh:frr gobgpd:gobgpd exabgp:exabgp bgpctl:openbgpd promtool:prometheus groff:groff-base openssl:openssl dbus-daemon:dbus-daemon
# Measured beside ours, and used nowhere else.
BENCH_NEEDS := vip-manager:vip-manager conntrackd:conntrackd
# Debian's browser alone takes 350 MB, so this takes long the first time.
BROWSER_NEEDS := chromium:chromium npm:npm
# The package is built by Debian's own Python, whichever comes first on the PATH.
DEB_NEEDS := dh:debhelper /usr/bin/python3:python3
DEB_VERSION ?= $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/floatip/__init__.py)
DEB := dist/floatip_$(DEB_VERSION)_all.deb
DEB_SOURCES := src debian packaging docs README.md LICENSE
APT_NEEDS := apt-ftparchive:apt-utils gpg:gpg gpg-agent:gpg-agent xz:xz-utils
SYSTEMD_NEEDS := $(LAB_NEEDS) $(DEB_NEEDS) $(APT_NEEDS) ps:procps debootstrap:debootstrap systemd-nspawn:systemd-container ansible-playbook:ansible-core
# On all that the package is for, and as an image.
PACKAGES_NEEDS := $(SYSTEMD_NEEDS) lintian:lintian buildah:buildah
SCENE ?= check
# Scenes in which etcd decides.
ETCD_SCENES := all etcd-% %-etcd-leader-die node-joins node-leaves rebalance
STORMS ?= 10000
SEED ?=
RUNS ?= 1
MINUTES ?= 60
# Processes that run tests. Their plays mostly wait, so there are more than cores.
WORKERS ?= 5

.DEFAULT_GOAL := help
# Two apts at once would refuse each other.
.NOTPARALLEL:
# Daemons that compile all modules at each start would start too late for the tests.
lab test test-systemd test-packages soak etcd-faults bench: export PYTHONDONTWRITEBYTECODE :=
.PHONY: help lab test test-systemd test-packages check docs sim soak etcd-faults mutants bench deb apt-repo rpm ansible-collection lock clean lab-needs test-needs bench-needs browser-needs systemd-needs deb-needs apt-needs rpm-needs packages-needs

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: lab-needs .venv/ready ## the guide's failover test on real daemons; SCENE=all plays every scene, SCENE=crash one
	$(PYTHON) -m floatip lab $(SCENE) $(LAB_OPTIONS)

test: test-needs browser-needs systemd-needs .venv/ready check ## everything that must hold: lint, types, unit tests, simulation, scenes on real daemons
	$(PYTHON) -m pytest -n $(WORKERS)

test-systemd: systemd-needs .venv/ready ## the guide and its faults on hosts with a real systemd, as root; RUNS=5 plays each five times
	RUNS=$(RUNS) $(PYTHON) -m pytest tests/systemd

test-packages: packages-needs .venv/ready ## the package on Debian 12 and 13, Ubuntu 22.04 and 24.04, as root; SUITES=jammy on one
	$(PYTHON) -m tests.packaging.suites $(SUITES)
	$(if $(SUITES),,$(PYTHON) -m tests.packaging.image)

check: .venv/ready ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Not with -q: what it does not show, --strict does not count.
docs: .venv/ready ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "read it: build/site/index.html"

sim: .venv/ready ## the simulated world: STORMS=10000 storms, or SEED=n to replay one with its score
	$(if $(SEED),SEED=$(SEED) )$(PYTHON) -m tests.sim.storm --storms $(STORMS)
	$(if $(SEED),SEED=$(SEED) )$(PYTHON) -m tests.sim.storm_fleet --storms $(STORMS)

soak: lab-needs .venv/ready ## faults of all kinds on real daemons, as SEED=n draws them, for MINUTES=60
	$(PYTHON) -m tests.soak $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(SOAK_OPTIONS)

etcd-faults: test-needs .venv/ready ## seeded faults on real etcd and real daemons: RUNS=200, SEED=n for the first; never two holders of an exclusive address
	$(PYTHON) -m tests.etcd_faults --runs $(if $(filter file,$(origin RUNS)),200,$(RUNS)) $(if $(SEED),--seed $(SEED))

mutants: .venv/ready ## plant bugs in the core and the host and see each one found
	$(PYTHON) -m tests.sim.mutants

bench: test-needs bench-needs .venv/ready ## every figure that is claimed: scenes, announcing, role changes, floods, attacks, the link, scrapes, idle cost; PART=announce one
	$(PYTHON) -m bench $(PART)

deb: $(DEB) ## the Debian package, in dist/; DEB_VERSION=0.1.0+test2 gives it another version

# In a copy: dpkg-buildpackage leaves its traces in the tree and its result beside it. -d: no compiler is needed.
# `docs` is a target of its own, which the package does not need.
$(DEB): $(filter-out docs,$(shell find $(DEB_SOURCES) -not -name __pycache__ -not -name "*.pyc")) | deb-needs
	rm -rf build/deb
	mkdir -p build/deb/floatip dist
	cp -r $(DEB_SOURCES) build/deb/floatip
	sed -i '1s/(.*)/($(DEB_VERSION))/' build/deb/floatip/debian/changelog
	cd build/deb/floatip && dpkg-buildpackage -b -us -uc -d
	mv build/deb/*.deb dist
	rm -r build/deb

apt-repo: $(DEB) apt-needs ## a signed apt repository with the package, in dist/apt; KEYID= signs it, URL= is where it will be reached
	KEYID="$(KEYID)" URL="$(URL)" packaging/apt-repository dist/apt $(DEB)

ansible-collection: ## the Ansible collection, in dist/
	@tools/need ansible-galaxy:ansible-core
	ansible-galaxy collection build --force --output-path dist deploy/ansible

# RPM's own database stays out of the system.
rpm: rpm-needs ## the RPM for Fedora and EL 10, in dist/
	rm -rf build/rpm
	rpmbuild --quiet -bb --define "_topdir $(CURDIR)/build/rpm" --define "_rpmdir $(CURDIR)/dist" \
	  --define "_rpmfilename %%{name}-%%{version}-%%{release}.%%{arch}.rpm" --define "source $(CURDIR)" \
	  --define "version $(VERSION)" --define "_dbpath $(CURDIR)/build/rpm/db" packaging/rpm/floatip.spec
	rm -r build/rpm

COMPILE := .venv/bin/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
  --allow-unsafe

lock: .venv/ready ## write requirements.txt anew from pyproject.toml
	.venv/bin/pip install -q pip-tools
	$(COMPILE) --extra checks --extra routes --extra etcd --extra linode --extra docs --extra dev -o requirements.txt pyproject.toml

clean: ## remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.venv/ready: requirements.txt pyproject.toml
	tools/need
	python3 -m venv .venv
	@echo "installing the Python packages of requirements.txt into .venv: this takes some minutes"
	.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lab-needs:
	@tools/need $(LAB_NEEDS) $(if $(filter $(ETCD_SCENES),$(SCENE)),$(ETCD_NEEDS))

test-needs:
	@tools/need $(TEST_NEEDS)

bench-needs:
	@tools/need $(BENCH_NEEDS)

browser-needs:
	@tools/need $(BROWSER_NEEDS)

systemd-needs:
	@tools/need $(SYSTEMD_NEEDS)

packages-needs:
	@tools/need $(PACKAGES_NEEDS)

rpm-needs:
	@tools/need $(RPM_NEEDS)

apt-needs:
	@tools/need $(APT_NEEDS)

deb-needs:
	@tools/need $(DEB_NEEDS)
