# The single entry: continuous integration calls only this.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Every install is held to the constraints, torch above all.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup page wheel orthanc chromium demo test test-long check fix claims claims-status \
	evidence bench bench-soak bench-peers bench-families sbom clean

help: ## Show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

setup: $(VENV)/.dev $(VENV)/.slicer-client page ## Make .venv with everything for development

# The editable install fetches it (hatch_build.py); this is for who got npm later, or a new lock file.
NIIVUE := src/veilseg/gateway/page/static/vendor/lock.txt
page: $(VENV)/.demo ## Fetch what draws the solids of the gateway's page (needs npm)
	@test -e $(NIIVUE) -a ! package-lock.json -nt $(NIIVUE) \
		|| $(BIN)/pip install --quiet --no-deps --editable .
	@test -e $(NIIVUE) || echo "no NiiVue here (is there npm?): the gateway's page has no 3D view"

wheel: $(VENV)/bin/python ## Build dist/veilseg-*.whl, with what draws the gateway's page in it
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@unzip -l dist/veilseg-*.whl | grep -q vendor/niivue.umd.js || { echo "NiiVue is not in it"; exit 1; }

# Tests start an Orthanc of their own, so the package's must not run. Without one they are skipped.
orthanc: ## Install the PACS that tests use (Debian or Ubuntu, as root)
	@if test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so && command -v Orthanc >/dev/null; then :; \
	elif test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb >/dev/null && \
		{ ! command -v systemctl >/dev/null || systemctl disable --now orthanc; } 2>/dev/null || true; \
	fi; \
	command -v Orthanc >/dev/null || echo "no Orthanc here: the tests that need one are skipped"

# The gateway's page is tested in a real browser. Without one those tests are skipped.
chromium: ## Install the browser that tests use (Debian, as root)
	@if command -v chromium >/dev/null; then :; \
	elif test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null || true; \
	fi; \
	command -v chromium >/dev/null || echo "no Chromium here: the tests of the page are skipped"

demo: $(VENV)/.demo ## Segment a real brain plainly and privately; report in demo-out (no torch)
	$(BIN)/veilseg demo --out demo-out

# Apart: with OpenVINO loaded in the process that forks the training data loader, the run crashed now
# and then (cause not proven). A server never trains, so users never have both in one process.
FITTING := tests/unit/training tests/unit/audit tests/integration/test_audit.py \
	$(wildcard tests/integration/test_train*.py)

# Apart: twice, a process that had run a thousand other tests ended without a word while it drove the
# browser (cause not found).
PAGE := tests/integration/page

# A file to a core. Small networks are fitted on one thread each: two threads wait for each other
# longer than they compute. A process that is lost fails the run; replaced, the rest of its file was
# waited for without end.
SPREAD := $(BIN)/pytest --numprocesses auto --dist loadfile --max-worker-restart 0 --durations 10

# schemathesis gives all its tests one name, of which pytest-xdist then runs one.
ONE_NAME := tests/integration/test_protocol_fuzz.py

test: setup check ## Checks and tests
	$(SPREAD) -m "not long" $(addprefix --ignore=,$(FITTING) $(PAGE))
	$(SPREAD) -m "not long" $(PAGE)
	OMP_NUM_THREADS=1 $(SPREAD) -m "not long" $(FITTING)

test-long: setup $(VENV)/.ray bench-families ## What takes minutes: accuracy measured anew, a fresh site, replicas on Ray
	$(SPREAD) -m long $(addprefix --ignore=,$(FITTING) $(ONE_NAME))
	$(BIN)/pytest -m long $(ONE_NAME)
	OMP_NUM_THREADS=1 $(SPREAD) -m long $(FITTING)

check: setup ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## Format and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

claims: setup ## Train and measure all that README, docs and cards state, in the background
	$(BIN)/python scripts/claims.py

evidence: setup ## Every scheme on every data set, one table: days, goes on where it was; docs/results.md
	$(BIN)/veilseg bench evidence --data $(DATA) --json results/evidence.json
	$(BIN)/python scripts/figures.py

claims-status: setup ## How far make claims is
	$(BIN)/python scripts/claims.py --list

DATA ?= $(or $(VEILSEG_DATA),../shared/data)
BRAIN := $(DATA)/brain_t1_oasis_3d
bench: setup bench-peers bench-families ## Measure speed, an hour on a machine that is idle: results/bench-*.json
	$(BIN)/veilseg bench runtime models/* --dataset $(DATA)/hippocampus --dataset $(BRAIN) \
		--json results/bench-runtime.json
	$(BIN)/veilseg bench serve models/hippocampus-mixup --json results/bench-serve.json
	$(BIN)/veilseg bench site models/hippocampus-* --dataset $(DATA)/hippocampus \
		--json results/bench-site.json
	$(BIN)/veilseg bench volume models/*-mixup models/*-encoding --json results/bench-volume.json
	$(BIN)/veilseg bench plan results/bench-serve.json --json results/bench-plan.json
	$(BIN)/veilseg bench families models/hippocampus-mixup --json results/bench-families.json
	$(BIN)/python scripts/figures.py

bench-soak: setup ## Load a server for half an hour: results/bench-soak.json
	$(BIN)/veilseg bench soak models/hippocampus-mixup --json results/bench-soak.json
	$(BIN)/python scripts/figures.py

# Each in an environment of its own, with our OpenVINO: servers are compared, and not runtimes.
bench-peers: $(VENV)/.peer-triton $(VENV)/.peer-ray ## Servers of others for veilseg bench serve

# PyTriton's server looks for the system's Python, and is made for this version of it.
SYSTEM_PYTHON ?= /usr/bin/python3.11
$(VENV)/.peer-triton: PEER_PYTHON = $(SYSTEM_PYTHON)
$(VENV)/.peer-ray: PEER_PYTHON = $(PYTHON)
PEERS := src/veilseg/bench/peers
$(VENV)/.peer-%: $(PEERS)/%.txt $(VENV)/.demo
	rm -rf $(VENV)/peers/$*
	$(PEER_PYTHON) -m venv --without-pip $(VENV)/peers/$*
	$(BIN)/pip --python $(VENV)/peers/$*/bin/python install --quiet --requirement $< \
		"openvino==$$($(BIN)/python -c 'import importlib.metadata as m; print(m.version("openvino"))')"
	touch $@

# Other ways to keep patients from a server, each in an environment of its own: none can do without
# versions of its own. CrypTen asks for packages that are gone or not needed, so it comes alone.
bench-families: $(addprefix $(VENV)/.family-,crypten tenseal flower) ## CrypTen, TenSEAL and Flower

$(VENV)/.family-%: $(PEERS)/%.txt constraints.txt $(VENV)/.demo
	rm -rf $(VENV)/peers/$*
	$(PYTHON) -m venv --without-pip $(VENV)/peers/$*
	$(BIN)/pip --python $(VENV)/peers/$*/bin/python install --quiet --requirement $<
	test ! -f $(PEERS)/$*-alone.txt || $(BIN)/pip --python $(VENV)/peers/$*/bin/python \
		install --quiet --no-deps --requirement $(PEERS)/$*-alone.txt
	touch $@

# Of what a site and a server install, each in an environment of its own: not of what develops it.
# Of the gateway's page npm tells: Python's tool does not see what lies in NiiVue's one file.
sbom: $(VENV)/.sbom-tool ## Bills of materials (CycloneDX): sbom/site.cdx.json, server.cdx.json, page.cdx.json
	mkdir -p sbom
	@if command -v npm >/dev/null; then \
		npm sbom --package-lock-only --omit=optional --sbom-format=cyclonedx > sbom/page.cdx.json; \
	else echo "no npm here: sbom/page.cdx.json is left out"; fi
	for part in site server; do \
		extra=$$( [ $$part = site ] || echo "[$$part]" ); \
		rm -rf $(VENV)/sbom-$$part && $(PYTHON) -m venv --without-pip $(VENV)/sbom-$$part && \
		$(BIN)/pip --python $(VENV)/sbom-$$part/bin/python install --quiet ".$$extra" && \
		$(VENV)/sbom-tool/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
			--output-format JSON --output-file sbom/$$part.cdx.json $(VENV)/sbom-$$part && \
		rm -rf $(VENV)/sbom-$$part || exit 1; \
	done

$(VENV)/.sbom-tool: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/sbom-tool
	$(VENV)/sbom-tool/bin/pip install --quiet "cyclonedx-bom>=7"
	touch $@

# Slicer's own client, apart and without what it would bring (torch): an independent witness.
$(VENV)/.slicer-client: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/slicer-client
	$(VENV)/slicer-client/bin/pip install --quiet requests 'legacy-cgi; python_version >= "3.13"'
	$(VENV)/slicer-client/bin/pip install --quiet --no-deps monailabel==0.8.5
	touch $@

clean: ## Remove what was made
	rm -rf $(VENV) sbom demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Two stages in one environment: the demo never waits for torch.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt package-lock.json hatch_build.py
	$(BIN)/pip install --quiet --editable ".[demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

# Into the same environment: what Ray needs is what is there already, in the same versions.
$(VENV)/.ray: $(VENV)/.dev
	$(BIN)/pip install --quiet --editable ".[dev,ray]"
	touch $@
