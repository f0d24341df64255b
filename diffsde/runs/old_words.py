"""Translation of configs in older run folders: the one place that knows the former words."""

from __future__ import annotations

import copy
from typing import Any

from diffsde.knobs import disagreements


def in_words_of_now(kept: Any) -> Any:
    """A config from a folder of a format that is read, translated to today's words with the same meaning; other values unchanged."""
    if not isinstance(kept, dict):
        return kept
    # A diffusion's `sigma` was called `scale`.
    config = copy.deepcopy(kept) if any("scale" in each for each in diffusions(kept)) else {**kept}
    for diffusion in diffusions(config):
        if "scale" in diffusion:
            diffusion["sigma"] = diffusion.pop("scale")
    net = config.get("net")
    if isinstance(net, dict) and net.get("positions") == "waves":
        config["net"] = net | {"positions": "sincos"}
    if (
        isinstance(net, dict) and net.get("gated_skip") is False
    ):  # now a number of products, which was that of coordinates
        config["net"] = net | {"gated_skip": 0}
    if "measurements" in config:
        config["n_measurements"] = config.pop("measurements")
    if "process" in config and not isinstance(config["process"], dict):  # now a group, of any SDE
        config["rank"] = config.pop("process")
    # Two words that set one number and disagree are refused now; formerly the longer word counted.
    for short, _, _, inner in list(disagreements(config)):
        config[short] = inner
    return config


def diffusions(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The diffusions of a config's sampler and of its predictor."""
    sampler = config.get("sampler")
    holders = (sampler, sampler.get("predictor") if isinstance(sampler, dict) else None)
    found = [holder.get("diffusion") for holder in holders if isinstance(holder, dict)]
    return [each for each in found if isinstance(each, dict)]
