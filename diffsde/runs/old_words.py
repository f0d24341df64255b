"""The words of configs that earlier versions kept in a run folder: the one place that knows them."""

from __future__ import annotations

import copy
from typing import Any

from diffsde.knobs import disagreements


def in_words_of_now(kept: Any) -> Any:
    """A config that is kept in a folder of today's FORMAT, in today's words, meaning what it meant; all else as it is."""
    if not isinstance(kept, dict):
        return kept
    config = copy.deepcopy(kept)
    # `sigma` of a diffusion was `scale` there, beside sigma= on the command line.
    sampler = config.get("sampler")
    for holder in (sampler, sampler.get("predictor") if isinstance(sampler, dict) else None):
        diffusion = holder.get("diffusion") if isinstance(holder, dict) else None
        if isinstance(diffusion, dict) and "scale" in diffusion:
            diffusion["sigma"] = diffusion.pop("scale")
    net = config.get("net")
    if isinstance(net, dict) and net.get("positions") == "waves":
        net["positions"] = "sincos"
    if "measurements" in config:
        config["n_measurements"] = config.pop("measurements")
    # Of two words that set one number and disagreed, which is refused now, the longer one counted.
    for short, _, _, inner in list(disagreements(config)):
        config[short] = inner
    return config
