"""Names that other projects and papers use for the choices of a group, and the choice of diffsde that each means."""

from __future__ import annotations

import re
from collections.abc import Iterable

# By group: our name, and the names that mean it elsewhere, spelled as `plain` spells.
OTHERS: dict[str, dict[str, str]] = {
    "sampler": {
        "em": "eulermaruyama maruyama sde",
        "pf_ode": "probabilityflow probabilityflowode ode",
        "dpmpp_2m": "dpmsolver dpmsolverpp dpmsolver2m dpmsolverpp2m dpmpp dpm dpm2m",
        "dpmpp_3m": "dpmsolverpp3m dpm3m",
        "dpmpp_2m_sde": "dpmsolversde dpmsolverppsde dpmsolverpp2msde dpmppsde",
        "dpmpp_1s": "dpmsolver1 dpmsolverpp1 dpmsolverpp1s dpm1",
        "ddpm": "ancestral",
        "pc": "predictorcorrector",
        "ald": "annealedlangevin annealedlangevindynamics",
        "stochastic_heun": "sheun heunsde stochheun",
        "rk4": "rungekutta rungekutta4",
        "adaptive": "dopri5 tsit5 rk45",
        "ab2": "adamsbashforth adamsbashforth2",
        "ab3": "adamsbashforth3",
        "edm": "karras edmheun",
    },
    "path": {
        "ot": "linear condot conditionalot optimaltransport rectifiedflow rf flowmatching",
        "trig": "gvp trigonometric",
        "vp": "variancepreserving vpsde",
        "ve": "varianceexploding vesde",
        "subvp": "subvpsde",
        "cosine": "iddpm squaredcosine",
        "edm": "karras",
    },
    "objective": {
        "cfm": "flow velocity flowmatching conditionalflowmatching fm u",
        "likelihood": "cnf ffjord mle maximumlikelihood nll normalizingflow",
        "noise": "eps epsilon ddpm noiseprediction epsprediction",
        "data": "denoising denoiser dataprediction z",
        "score": "dsm scorematching denoisingscorematching",
        "v": "vprediction vpred",
    },
    "coupling": {
        "ot": "exact emd optimaltransport minibatchot otcfm",
        "sinkhorn": "entropic eot entropicot sb schroedinger schrodinger",
        "unbalanced": "uot unbalancedot",
        "independent": "product none",
    },
    "dataset": {
        "gmm": "ring gaussianmixture mog 11gaussians",
        "gaussian": "normal",
        "moons": "twomoons makemoons",
        "circles": "twocircles makecircles",
        "8gaussians": "eightgaussians",
        "spirals": "twospirals 2spirals",
        "scurve": "makescurve",
        "swiss_roll": "makeswissroll",
        "checkerboard": "chessboard",
        "fashion_mnist": "fmnist",
        "array": "file csv npy npz table",
        "image_folder": "folder images",
    },
    "process": {
        "brownian": "brownianmotion wiener bm",
        "ou": "ornsteinuhlenbeck",
        "geometric_brownian": "gbm geometricbrownianmotion",
        "langevin": "langevindynamics overdamped overdampedlangevin",
    },
    "net": {"dit": "transformer", "mlp": "dense"},
    "grid": {"uniform": "linear", "rho": "karras edm polynomial", "shifted": "sd3 shift", "log_snr": "lambda"},
    "diffusion": {"memoryless": "reverse"},
}

# By key: the names that mean it elsewhere, spelled likewise; the first of the keys that a verb has is meant.
KEYS: dict[str, str] = {
    "lr": "learningrate stepsize",
    "steps": "iterations iters niter numsteps nsteps maxsteps maxiter nfe timesteps numinferencesteps",
    "batch_size": "batch bs minibatch",
    "net": "model network architecture arch",
    "dataset": "data",
    "dataset.file": "file datafile",
    "n": "numsamples nsamples samplesize count",
    "objective": "loss lossfn criterion prediction predictiontype",
    "sampler": "solver integrator method",
    "path": "scheduler noiseschedule probabilitypath",
    "optimizer.schedule": "lrschedule",
    "optimizer": "optim",
    "guidance": "guidancescale cfgscale",
    "seed": "randomseed rng",
    "run": "checkpoint ckpt weights modelpath load",
    "experiment": "config configfile recipe",
    "hydra.run.dir": "out output outputdir outdir savedir logdir folder dir",
    "metrics": "metric",
    "processes": "numprocesses worldsize",
}
# Names of elsewhere for what is said otherwise here:
EXPLAINED: dict[str, str] = {
    **dict.fromkeys(
        ("epochs", "epoch", "numepochs", "nepochs"),
        "training is counted in steps=, of batch_size= points each",
    ),
    **dict.fromkeys(
        ("device", "gpu", "cuda", "accelerator", "usegpu"),
        "jax takes the accelerator that it finds, and JAX_PLATFORMS=cpu before the command the CPU",
    ),
    **dict.fromkeys(("verbose", "quiet"), "what is printed is the same always"),
    "debug": "DIFFSDE_DEBUG=1 before the command shows the traceback of an error",
}


def key_advice(key: str, known: Iterable[str]) -> str:
    """What a key of elsewhere is here: '; it is called lr= here'; empty where nothing is known of it."""
    name = plain(key).replace(".", "")
    if name in EXPLAINED:
        return f"; {EXPLAINED[name]}"
    ours = next(
        (ours for ours, others in KEYS.items() if name in others.split() and ours in (*known, "hydra.run.dir")), ""
    )
    return f"; it is called {ours}= here" if ours else ""


def plain(name: str) -> str:
    """A name in small letters without - and _ and blanks, ++ as pp: dpm-solver++ and DPM_Solver_pp are one name."""
    return re.sub(r"[-_\s]", "", name.lower().replace("++", "pp"))


def our_name(group: str, name: str, known: list[str]) -> str | None:
    """The choice that a name means: one of `known` spelled otherwise, or an entry of OTHERS; None where there is none."""
    meant = {plain(choice): choice for choice in known}
    for ours, others in OTHERS.get(group, {}).items():
        meant |= dict.fromkeys(others.split(), ours)
    found = meant.get(plain(name))
    return found if found in known else None
