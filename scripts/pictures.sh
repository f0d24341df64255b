#!/usr/bin/env bash
# The pictures of README.md and docs/: trains the default model, samples it by ODE and SDE, compares its score with a learned one, and copies what the commands drew.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
diffsde=${DIFFSDE:-diffsde}
(
    cd "$work" # the pictures name the run as it is named here
    "$diffsde" train path=ot objective=cfm hydra.run.dir=run
    "$diffsde" sample run=run sampler=em sigma=0.5 hydra.run.dir=sde
    "$diffsde" train path=ot objective=score hydra.run.dir=score
    "$diffsde" show what=field run='[run,score]' quantity=score of=difference times=0.6 hydra.run.dir=field
)
mkdir -p docs/pictures
cp "$work/run/plots/loss.png" "$work/sde/plots/trajectories.png" "$work/sde/plots/marginals.png" "$work/sde/plots/cloud.gif" "$work/field/field.png" docs/pictures/
echo "pictures are in docs/pictures/"
