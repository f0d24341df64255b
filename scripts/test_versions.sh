#!/usr/bin/env bash
# Runs tests with the lowest, or the newest, versions that pyproject.toml allows, in a venv of its own.
# usage: scripts/test_versions.sh lowest|newest 'PYTHON ...' [FILE ...]
# PYTHON: what the venv is made with, the first of these that is 3.11, 3.12 or 3.13; FILE: of tests; default: all that are not slow
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
which=${1:-} candidates=${2:-}
case $which in
lowest | newest) ;;
*) echo "$0: '$which' is neither lowest nor newest" >&2 && exit 2 ;;
esac
shift 2
for candidate in $candidates; do
	if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
		python=$candidate && break
	fi
done
[[ -n ${python:-} ]] || { echo "$0: no Python 3.11, 3.12 or 3.13 with venv among: $candidates" >&2 && exit 2; }
venv=.venv-$which
export PIP_DISABLE_PIP_VERSION_CHECK=1
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
[[ $which == newest ]] || "$python" scripts/lowest_versions.py >"$constraints"

echo "== making $venv with $("$python" --version) and the $which versions"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade --upgrade-strategy eager --constraint "$constraints" --editable '.[dev]'
"$venv/bin/python" -m pip check
"$venv/bin/python" -m pip list --format freeze | grep -iE '^(jax|jaxlib|flax|optax|orbax-checkpoint|hydra-core|omegaconf|numpy|scipy|matplotlib|diffrax)=='
echo "== tests"
"$venv/bin/python" -m pytest -n 2 -m "not slow" "$@"
