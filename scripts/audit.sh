#!/usr/bin/env bash
# Looks the versions of constraints.txt up among the known vulnerabilities; says so, and fails, where that cannot be done.
# usage: scripts/audit.sh BIN    BIN: the folder that pip-audit is in
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pip-audit passes over the pins for other Pythons than its own and takes each package once: a list without markers for each pin of a package.
awk -F== -v work="$work" '/==/ && !/^#/ {sub(/ *;.*/, ""); print > (work "/" ++pins[$1] ".txt")}' "$root/constraints.txt"

status=0
for list in "$work"/*.txt; do
	code=0
	# --strict: what cannot be looked up is not passed over.
	said=$("$1/pip-audit" --strict --disable-pip --no-deps --progress-spinner off --requirement "$list" 2>&1) || code=$?
	said=$(grep -v '^WARNING:' <<<"$said" || true)
	if ((code)) && [[ $said != *"Found "*" known vulnerabilit"* ]]; then
		echo "audit: nothing can be said, as not every version was looked up at PyPI: $(tail -1 <<<"$said" | cut -c1-200)" >&2
		exit 1
	fi
	echo "== $(wc -l <"$list" | tr -d ' ') versions: $said"
	((code == 0)) || status=1
done
exit "$status"
