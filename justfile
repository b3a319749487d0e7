# What a contributor runs; `just` lists it. Each recipe is one line that can be typed by hand too.

export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

_default:
    @just --list

# Make the environment with everything.
setup:
    python3 -m venv .venv && pip install -c constraints.txt -e ".[dev]"

# What a commit must pass.
check:
    ruff check . && ruff format --check . && mypy

# The ordinary tests, as the README runs them.
test *arguments:
    pytest -n 3 {{ arguments }}

# The tests that run no freqtrade process.
core *arguments:
    pytest -n 3 -m "not freqtrade and not slow" {{ arguments }}

# The long runs.
slow *arguments:
    pytest -m slow {{ arguments }}

# The ordinary tests with the branches that they take.
coverage:
    pytest -n 3 --cov --cov-report term-missing:skip-covered

# Measure beside freqtrade's own models.
bench *rows:
    python -m benchmarks {{ rows }}
