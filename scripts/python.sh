#!/bin/sh
# Prints the interpreter to build with: $PYTHON when given, else the newest on PATH that we test with, else any newer.
# It must be 3.11 or later and able to make a virtual environment. Each candidate is run, because names lie (version
# managers put a `python3.13` on PATH that only says where it is not installed).
set -eu
for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
  if "$candidate" -c '
import ensurepip, sys, venv
sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
  [ "$candidate" != "${PYTHON:-}" ] || break
done
cat >&2 <<'TEXT'
No suitable Python found: spanbox needs 3.11 or later with the venv module (Debian: apt-get install python3-venv).
An interpreter outside PATH is given as  make PYTHON=/path/to/python3 ...
TEXT
exit 1
