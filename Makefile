# Every target sets up what it needs: a virtual environment in .venv, installed anew when pyproject.toml changes.
# `make help` lists the targets. Another Python: make test PYTHON=python3.13. Options: make demo ARGS='--port 9000'.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := dev,embedded

.DEFAULT_GOAL := help
.PHONY: help demo run test fuzz lint bench bench-control bench-flood cluster chaos rolling soak exact clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## A working system on this machine: NATS, two apps, the router
	@$(BIN)/router demo $(ARGS)

run: $(INSTALLED) ## The router; ARGS='-c FILE' names its configuration
	@$(BIN)/router run $(ARGS)

test: $(INSTALLED) ## All tests
	@$(BIN)/python -m pytest $(ARGS)

fuzz: $(INSTALLED) ## Strange messages through the data plane, read by h11 and h2; ARGS='SECONDS [SEED]'
	@$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(INSTALLED) ## Style and types: ruff, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict router

bench: $(INSTALLED) ## CPU per request, next to nginx, HAProxy and others (needs nginx and wrk)
	@$(BIN)/python -m bench $(ARGS)

bench-control: $(INSTALLED) ## What registrations cost, over a real nats-server
	@$(BIN)/python -m bench.control $(ARGS)

bench-flood: $(INSTALLED) ## What requests feel of a flood of registrations
	@$(BIN)/python -m bench.flood $(ARGS)

cluster: $(INSTALLED) ## A whole system on this machine: 3 NATS, 3 routers, 2 nginx, 6 apps; ARGS='--port N' or '--check'
	@$(BIN)/python -m bench.cluster $(ARGS)

chaos: $(INSTALLED) ## The same under checked load while its parts are killed and cut off: make chaos MIN=10 SEED=1
	@$(BIN)/python -m bench.cluster.chaos --minutes $(or $(MIN),2) --seed $(or $(SEED),1) $(ARGS)

soak: $(INSTALLED) ## A router under mixed traffic for long, with a plot of its memory: make soak MIN=30
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[simulate]'
	@$(BIN)/python -m bench.soak --minutes $(or $(MIN),30) $(ARGS)

rolling: $(INSTALLED) ## Reload, replaced workers, upgrade, drain, 20 times each under load behind nginx: what is lost
	@$(BIN)/python -m bench.rolling $(ARGS)

exact: $(INSTALLED) ## Access log and metrics against 100,000 known requests, workers killed meanwhile
	@$(BIN)/python -m bench.exact $(ARGS)

clean: ## Remove .venv and all caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@$(check_python)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(make_venv); }
	@echo "Installing router and its tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore -e '.[$(EXTRAS)]'
	@touch $@

define check_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "router needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing)." >&2; \
	echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
endef

# A Debian python3 may come without ensurepip (package python3-venv); virtualenv and uv do without it.
define make_venv
set -e; rm -rf $(VENV); \
echo "Creating $(VENV) with $$($(PYTHON) -V) …"; \
has_ensurepip() { $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; }; \
package=python3-venv; \
case "$(notdir $(PYTHON))" in python3.*) package=$(notdir $(PYTHON))-venv;; esac; \
if has_ensurepip; then $(PYTHON) -m venv $(VENV); \
elif command -v virtualenv >/dev/null; then virtualenv --quiet --python $(PYTHON) $(VENV); \
elif command -v uv >/dev/null; then uv venv --quiet --seed --python $(PYTHON) $(VENV); \
elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing $$package …"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$package >/dev/null; \
	$(PYTHON) -m venv $(VENV); \
else \
	echo "$(PYTHON) cannot make a virtual environment: $$package is missing. Install it, then repeat:" >&2; \
	echo "    sudo apt-get install $$package" >&2; exit 1; \
fi
endef
