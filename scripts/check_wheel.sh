#!/usr/bin/env bash
# Builds the wheel, installs it in an empty venv, and trains and samples from a folder outside the checkout.
# usage: scripts/check_wheel.sh [PYTHON]    the Python to do it with; default: python3
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(command -v "${1:-python3}")
[[ $python == /* ]] || python=$PWD/$python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir "$work/elsewhere"
cd "$work/elsewhere"

echo "== building the wheel"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" "$root"

echo "== installing it in an empty venv"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" "$work"/dist/diffsde-*.whl
"$work/venv/bin/python" -m pip check

echo "== the package and its configs are the installed ones"
"$work/venv/bin/python" - "$work/venv" <<'EOF'
import sys
from pathlib import Path

from diffsde.cli.job import config_folder

configs = config_folder()
assert configs.is_relative_to(Path(sys.argv[1]).resolve()), f"configs are read from {configs}"
assert all((configs / name).is_file() for name in ("train.yaml", "path/ot.yaml", "knobs/machine.yaml")), f"{configs} is not whole"
EOF

echo "== diffsde --help"
"$work/venv/bin/diffsde" --help >/dev/null

echo "== diffsde train"
"$work/venv/bin/diffsde" train steps=20 batch_size=100 cache_dir="$work/programs"

echo "== diffsde sample"
"$work/venv/bin/diffsde" sample steps=5 n=500 cache_dir="$work/programs"
"$work/venv/bin/diffsde" sample sampler=em sigma=0.5 steps=5 n=500 plots=false cache_dir="$work/programs"

echo "== diffsde report"
"$work/venv/bin/diffsde" report out=page
test -s page/report.html

echo "== the wheel works"
