# The developer's commands. `just` alone lists them.

default:
    @just --list

# Everything that runs without a daemon, then the flows with real ones
test *ARGS:
    python -m pytest -n 4 --dist worksteal {{ARGS}}

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
    python -m tests.campaign --deep --jobs 2 --results tests/campaign/results.json

# The benchmarks behind the README's table
bench *ARGS:
    python -m tests.bench {{ARGS}}

# What the continuous integration runs, in a fresh environment
ci:
    .ci/run
