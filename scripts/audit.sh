#!/usr/bin/env bash
# Looks the versions of constraints.txt up among the known vulnerabilities; says so, and fails, where that cannot be done.
# usage: scripts/audit.sh BIN    BIN: the folder that pip-audit is in
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# --strict: without it, packages that cannot be looked up are passed over, and of none is known no vulnerability.
if said=$("$1/pip-audit" --strict --disable-pip --no-deps --progress-spinner off --requirement "$root/constraints.txt" 2>&1); then
	echo "$said" | grep -v '^WARNING:'
	exit
fi
case $said in
*"could not be audited"* | *ConnectionError* | *"Could not connect"* | *"timed out"*)
	echo "audit: nothing was audited, as PyPI's list of known vulnerabilities cannot be read from here: $(tail -1 <<<"$said" | cut -c1-200)" >&2
	;;
*) echo "$said" >&2 ;;
esac
exit 1
