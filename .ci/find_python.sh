#!/bin/sh
# Prints a Python of at least 3.11 that can make a virtual environment. Says what is missing otherwise.
set -eu

at_least='import sys; sys.exit(sys.version_info < (3, 11))'
found=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    # Run it instead of only looking for it: a version manager's shim exists for versions that are not active.
    "$candidate" -c "$at_least" >/dev/null 2>&1 || continue
    found=$candidate
    # Debian ships venv without ensurepip: such an environment would have no pip.
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done

if [ -n "$found" ]; then
    minor=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "Python $minor is here, but cannot make a virtual environment with pip (module ensurepip is missing)." >&2
    echo "Remedy on Debian or Ubuntu: apt-get install python$minor-venv" >&2
else
    echo "No Python of at least 3.11 was found (looked for: ${PYTHON:-python3, python3.14 to python3.11, python})." >&2
    echo "Remedy: install one, for example 'apt-get install python3 python3-venv', or name yours: make PYTHON=/path/to/python3" >&2
fi
exit 1
