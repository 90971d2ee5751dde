# The developer's commands. `just` alone lists them.

default:
    @just --list

# Everything that runs without a daemon, then the flows with real ones
test *ARGS:
    python -m pytest -n 2 {{ARGS}}

# One story with real processes
flows *ARGS:
    python -m pytest tests/flows {{ARGS}}

# What every change must pass
check: lint types layers test

lint:
    ruff check .
    ruff format --check .

format:
    ruff check --fix .
    ruff format .

types:
    mypy

layers:
    lint-imports

# Long forms of the crash and model tests
torture:
    TQ_KILL_ROUNDS=200 TQ_EXAMPLES=20000 python -m pytest -n 2 --timeout 3600 tests/flows tests/tq/store

# The benchmarks behind the README's table
bench *ARGS:
    python -m tests.bench {{ARGS}}

# What the continuous integration runs, in a fresh environment
ci:
    .ci/run
