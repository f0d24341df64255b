"""The texts of --help, read from configs/ without slow imports, and advice for errors of composition."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from diffsde.cli import choice_texts
from diffsde.cli.other_names import key_advice
from diffsde.cli.plain import PLAIN
from diffsde.errors import suggestion
from diffsde.knobs import Number, knob
from diffsde.plugins import GROUP_OF
from diffsde.runs.record import key_typed

EXAMPLES = {
    "train": [
        ("diffsde train path=ot objective=cfm", "flow matching on the 11-component mixture"),
        ("diffsde train dataset=moons path=vp objective=noise", "a noise predictor on the VP path"),
        ("diffsde train -m path=ot,vp objective=cfm,score", "a sweep: every combination, a folder each"),
        ("diffsde train dataset=array dataset.file=points.npy", "your own data"),
    ],
    "sample": [
        ("diffsde sample sampler=em sigma=0.5", "the SDE, from the newest trained run"),
        ("diffsde sample sampler=heun steps=20", "the ODE"),
        ("diffsde sample run=oracle dataset=gmm path=vp sampler=heun", "the exact field: no training"),
        ("diffsde sample run=oracle source=8gaussians dataset=gmm path=bridge", "between two laws"),
        ("diffsde sample sampler=em direction=backward", "from the data to the source"),
        ("diffsde sample -m sampler=em sigma=0,0.5,1,2", "one field, every sigma"),
        ("diffsde sample measurement=inpaint n=64", "images given their left half"),
    ],
    "evaluate": [
        ("diffsde evaluate", "the newest trained run: likelihood of test points, samples beside real ones"),
        ("diffsde evaluate samples=outputs/sample/...", "samples that are there"),
        ("diffsde evaluate -m steps=5,10,20,50 metrics=[frechet]", "a table of quality against evaluations"),
    ],
    "simulate": [
        (
            "diffsde simulate process=ou theta=0.7 sigma=0.9 x0=3.0 t_end=2.0",
            "Ornstein-Uhlenbeck, against its closed forms",
        ),
        ("diffsde simulate -m process=brownian sigma=0.3,1,3", "Brownian motion, every sigma in one picture"),
        ("diffsde simulate process=langevin dataset=8gaussians t_end=20", "Langevin dynamics of a mixture"),
        ("diffsde simulate process=expression 'process.drift=[x2,-x1]'", "your own, coordinate by coordinate"),
    ],
    "explain": [
        ("diffsde explain path=sqrt objective=cfm sampler=em", "limits, loss, order and cost"),
        ("diffsde explain source=8gaussians dataset=moons path=bridge", "the same between two laws"),
        ("diffsde explain path=ot sampler=em diffusion=memoryless", "what would be refused, and why"),
    ],
    "show": [
        ("diffsde show what=field dataset=gmm path=ot", "the exact velocity at four times"),
        ("diffsde show what=field of=difference", "the newest run beside the exact field, and the difference"),
        ("diffsde show what=density dataset=gmm path=vp scale=log", "p_t as heat maps"),
        ("diffsde show what=conditional dataset=gmm path=ot sigma=1", "p_t(x|z), its field, its ODE and SDE"),
        ("diffsde show what=path paths=[ot,vp,cosine]", "alpha, beta, their derivatives, SNR, eta"),
    ],
}


def purpose(configs: Path, verb: str) -> str:
    """What a verb does, from the first line of its config, `# diffsde VERB: ...`."""
    first = (configs / f"{verb}.yaml").read_text().partition("\n")[0]
    return first.removeprefix(f"# diffsde {verb}: ").removesuffix(".")


def overview(configs: Path, verbs: Iterable[str]) -> str:
    """The text of diffsde --help."""
    lines = [
        "diffsde: a laboratory for flow and diffusion models",
        "",
        "  dX = [u_t + sigma_t^2/2 grad log p_t] dt + sigma_t dW has the same marginals for every sigma_t:",
        "  one trained field serves every sampler, and for a Gaussian mixture the field is known exactly.",
        "",
        "usage: diffsde VERB [group=choice ...] [key=value ...]",
        "",
        "verbs:",
        *[f"  {verb:<8} {purpose(configs, verb)}" for verb in verbs],
        *[f"  {verb:<8} {about.purpose}" for verb, about in PLAIN.items()],
        "",
        "examples:",
    ]
    for verb in verbs:
        lines += [f"  {command:<66} {what}" for command, what in EXAMPLES.get(verb, ())]
    for about in PLAIN.values():
        lines += [f"  {command:<66} {what}" for command, what in about.examples]
    lines += [
        "",
        "diffsde VERB --help lists what a verb takes; diffsde VERB sampler=em --help the numbers of a choice, too.",
        "diffsde --install-completion lets the tab key complete verbs, choices, knobs, run folders and files.",
    ]
    return "\n".join(lines)


def verb_help(configs: Path, verb: str, words: Iterable[str] = ()) -> str:
    """The text of diffsde VERB --help: groups with their choices, knobs with their defaults, examples.

    words: those typed beside --help; the numbers of each group=choice among them are listed first.
    """
    lines = [f"diffsde {verb}: {purpose(configs, verb)}", ""]
    for word in words:
        group, _, choice = word.partition("=")
        if group in groups(configs, verb) and choice in choice_texts.names(configs, group):
            lines += [*choice_help(configs, group, choice), ""]
    lines += [
        "groups (group=choice; a choice's own numbers: group.key=value):",
    ]
    for group, default in groups(configs, verb).items():
        folder = f"experiment/{verb}" if group == "experiment" else group
        default = choice_texts.NORMAL if group == "source" and default == "null" else default
        names = ["[" + name + "]" if name == default else name for name in choices(configs, folder, verb)]
        lines.append(f"  {group + '=':<12} {' '.join(names)}")
    lines += ["", "knobs:"]
    for name, value, about in knobs(configs, verb):
        lines.append(f"  {name + '=' + value:<22} {about}")
    lines += [
        "",
        "everywhere: -m sweeps over path=ot,vp or seed=range(0,5), which is 0 to 4; a list is written labels=[0,1,2];",
        "--cfg job prints the config; --config-dir DIR adds your own choices; hydra.run.dir=DIR says where to write;",
        "plugins=[my_parts.py] adds your own paths, datasets, samplers, nets, metrics (docs/plugins.md);",
        f"experiment=NAME takes a whole recipe; diffsde {verb} GROUP=CHOICE --help lists the numbers of a choice.",
        "",
        "examples:",
        *[f"  {command:<66} {what}" for command, what in EXAMPLES.get(verb, ())],
    ]
    return "\n".join(lines)


def choice_help(configs: Path, group: str, choice: str) -> list[str]:
    """Lines on a choice: its comment, and each of its numbers with default and meaning."""
    rows, comment = choice_numbers(configs, group, choice), choice_comment(configs, group, choice)
    first = f"{group}={choice}" + (f": {comment}" if comment else "" if rows else ": it has no numbers")
    return [first, *(f"  {f'{name}={value}':<36} {meaning}".rstrip() for name, value, meaning in rows)]


def choice_comment(configs: Path, group: str, choice: str) -> str:
    """The first line of a choice's file, where it is a comment; else empty."""
    first = choice_texts.text(configs, group, choice).partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def choice_numbers(configs: Path, group: str, choice: str, prefix: str = "") -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each number of a choice, and of the choices inside it (a sampler's diffusion)."""
    text, prefix = choice_texts.text(configs, group, choice), prefix or group
    about, rows = numbers_about(configs, GROUP_OF.get(group, group)), []
    for name, value, meaning in re.findall(r"^(\w+): ?(.*?)(?: +# (.*))?$", text, flags=re.M):
        if name not in ("name", "defaults"):
            value = re.sub(r"\$\{default:\$\{\w+\},(.*)\}", r"\1", value)
            rows.append((f"{prefix}.{name}", value, meaning or about.get(name, "")))
    for inner, field, default in re.findall(r"^  - /(\w+)@(\w+): (\w+)", text, flags=re.M):
        rows += [
            (f"{prefix}.{field}", default, f"a {inner}"),
            *choice_numbers(configs, inner, default, f"{prefix}.{field}"),
        ]
    return rows


def numbers_about(configs: Path, group: str) -> dict[str, str]:
    """{number: its meaning} for a group, from configs/about.yaml."""
    part = re.search(rf"^{group}:\n((?:  .*\n)*)", (configs / "about.yaml").read_text(), flags=re.M)
    return dict(re.findall(r"^  (\w+): (.*)$", part[1], flags=re.M)) if part else {}


def groups(configs: Path, verb: str) -> dict[str, str]:
    """The groups in a verb's defaults list, with the default choice of each ('null' for none)."""
    text = (configs / f"{verb}.yaml").read_text()
    found = dict(re.findall(r"^  - (?:\w+@)?(\w+)(?:/\w+@_global_)?: (\w+)", text, flags=re.M))
    if "process" in found:
        return {"process": found.pop("process"), "dataset": "", **found}
    if "sampler" in found:
        found["diffusion"] = ""
    return found


def choices(configs: Path, group: str, verb: str = "") -> list[str]:
    """The names of a group's choices: its YAML files, and the user's own; of source= of verbs with a path also normal."""
    own = [choice_texts.NORMAL] if group == "source" and verb not in ("", "simulate") else []
    return [*own, *choice_texts.names(configs, group)]


AFTER = ("outputs", "machine")  # sets of knobs that --help lists after a verb's own


def sources(configs: Path, verb: str) -> dict[str, str]:
    """The YAML texts that define a verb's knobs, by name: the sets in its defaults list, then its own file, which overrides."""
    own = (configs / f"{verb}.yaml").read_text()
    names = re.findall(r"^  - knobs/(\w+)$", own, flags=re.M)
    return {name: (configs / "knobs" / f"{name}.yaml").read_text() for name in names} | {verb: own}


def knobs(configs: Path, verb: str) -> list[tuple[str, str, str]]:
    """(name, default, description) of every top-level knob, from the comments in the files.

    A verb that sets another default for a knob of a set need not repeat the description.
    """
    found: dict[str, tuple[str, str, str]] = {}
    after: dict[str, tuple[str, str, str]] = {}
    for source, text in sources(configs, verb).items():
        for name, value, about in re.findall(r"^(\w+): (\S+)(?: +# (.*))?$", text, flags=re.M):
            place = after if source in AFTER or name in after else found
            place[name] = (name, value, about or place[name][2])
    return [*found.values(), *after.values()]


def known_keys(configs: Path, verb: str) -> list[str]:
    """Every key that may stand before = on a verb's command line."""
    keys = [name for name, _, _ in knobs(configs, verb)]
    for group in groups(configs, verb):
        keys.append(group)
        prefix = "sampler.diffusion" if group == "diffusion" else group
        if verb == "simulate" and group == "dataset":
            prefix = "process.dataset"
        for text in choice_texts.texts(configs, group).values():
            if group != "experiment":
                keys += [f"{prefix}.{key}" for key in re.findall(r"^(\w+):", text, flags=re.M)]
    keys.append("plugins")
    return sorted({key for key in keys if not key.endswith((".name", ".defaults"))})


def owners_of(configs: Path, key: str) -> list[str]:
    """The choices of a group that have the number of a key like path.rate_min or sampler.diffusion.sigma_t."""
    group, _, number = key.rpartition(".")
    group = group.rpartition(".")[2]
    texts = choice_texts.texts(configs, group) if group else {}
    return [name for name, text in texts.items() if re.search(rf"^{re.escape(number)}:", text, flags=re.M)]


def verbs_with(configs: Path, key: str) -> list[str]:
    """The verbs on whose command line a key may stand."""
    verbs = [path.stem for path in sorted(configs.glob("*.yaml")) if path.stem in EXAMPLES]
    return [verb for verb in verbs if key in known_keys(configs, verb)]


OWN_NOISE = ("ald", "consistency", "edm", "pc", "reverse_diffusion")  # samplers whose noise is set by no diffusion
EXTRAS = ("joblib", "submitit", "optuna")  # Hydra's plugins that are installed by diffsde's extras of the same names


def composition_error(message: str, configs: Path, verb: str, words: Iterable[str] = ()) -> str:
    """A report of Hydra or OmegaConf on a command's words rewritten in one line that says what would be right."""
    text = " ".join(message.split())
    if missing := re.search(r"Could not find '([\w/]+)/([^']*)'", text):
        group, choice = missing.groups()
        if extra := next((extra for extra in EXTRAS if choice.startswith(extra)), None):
            return f"{group}={choice} needs pip install 'diffsde[{extra}]'"
        named = suggestion(choice, choices(configs, group), most=100)
        return f"{group.split('/')[0]}: '{choice}' is not a choice{named}"
    if unknown := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text):
        key = (unknown[1] or unknown[2]).replace("diffusion@sampler.diffusion", "diffusion")
        if key == "dataset@process.dataset":
            return "dataset: of the processes langevin alone has one, whose density it follows; source= is of the starting points"
        if key == "diffusion":
            typed = [word.partition("=")[2] for word in words if word.startswith("sampler=")]
            if typed and typed[-1] in OWN_NOISE:
                return f"diffusion: sampler={typed[-1]} draws noise of its own, which no sigma_t sets; take sampler=em"
            return "diffusion: this sampler solves the ODE and has none; take sampler=em"
        *_, group, number = f".{key}".split(".")
        if group in groups(configs, verb) and (owners := owners_of(configs, key)):
            if group == "diffusion" and owners == choices(configs, group):
                return f"{key}: this sampler has no diffusion; take sampler=em"
            return f"{key}: this {group} has no {number}; it belongs to {group}={' or '.join(owners)}"
        if verb not in (theirs := verbs_with(configs, key)) and theirs:
            named = " and ".join(filter(None, [", ".join(theirs[:-1]), theirs[-1]]))
            return f"{key}= is a word of diffsde {named}, not of {verb}; see diffsde {verb} --help"
        known = known_keys(configs, verb)
        inner = [each for each in known if each.endswith(f".{key}")]  # a choice's own number, its group left out
        named = f" (did you mean '{inner[0]}'?)" if len(inner) == 1 else suggestion(key, known)
        named = key_advice(key, known) or named
        return f"{key} is not known{named}; see diffsde {verb} --help"
    if merged := re.search(r"Error merging override '?([^= ]+)=(.*)", text):
        kind = "list" if merged[2].startswith("[") else "dict"
        return f"{key_typed(merged[1])} is no {kind}; see diffsde {verb} --help for what it is"
    if several := re.search(r"Ambiguous value for argument '(.*?)' 1\.", text):
        key, _, values = several[1].partition("=")
        key = key_typed(key)
        one = "" if key in groups(configs, verb) else f"; {key}=[{values}] is one value that is a list"
        return f"{key}={values} is a list of values: sweep them with -m{one}"
    if swept := re.search(r"Sweep parameters '(.*?)' requires --multirun", text):
        return f"{swept[1]} is several values: sweep them with -m"
    if absent := re.search(r"Interpolation key '(.*?)' not found|Unsupported interpolation type (\w+)", text):
        return unknown_variable(absent[1] or absent[2], words)
    if "nterpolation" in text and (word := next((word for word in words if "${" in word), "")):
        return f"{word}: ${{...}} cannot be replaced by a value: {text.split(' full_key:')[0]}"
    if unread := unreadable(words):
        return f"{unread} cannot be read: {amiss(unread)}"
    return text.split(" full_key:")[0].split(" See https")[0]


def unknown_variable(name: str, words: Iterable[str]) -> str:
    """The message for ${name} in a word, where there is no such key; the very text is typed with a backslash before it."""
    word = next((word for word in words if "${" + name in word), "")
    if not word:
        return f"${{{name}}} stands for the value of a key, and there is no key {name}"
    if isinstance(knob(word.partition("=")[0].rpartition(".")[2]), Number):
        return f"{word}: ${{...}} stands for the value of a key, and there is no key {name}; give a number"
    literal = re.sub(r"(?<!\\)\$\{", r"\${", word)
    return f"{word}: ${{...}} stands for the value of a key, and there is no key {name}; in double quotes it is the shell's variable; the very text is {shlex.quote(literal)}"


def unreadable(words: Iterable[str]) -> str:
    """The first of a command's words that Hydra's grammar cannot parse; empty where it parses all."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for word in words:
        try:
            OverridesParser.create().parse_override(word)
        except HydraException:
            if "=" in word and not word.startswith("-"):
                return word
    return ""


def amiss(word: str) -> str:
    """What keeps a word from being read, and what would be right."""
    key, _, value = word.partition("=")
    for opening, closing in ("()", "[]", "{}"):
        if value.count(opening) != value.count(closing):
            return f"'{opening}' and '{closing}' do not match"
    if quote := next((quote for quote in "'\"" if value.count(quote) % 2), ""):
        return f"a quote {quote} is not closed"
    inside = value.replace("'", "\\'")
    return f"""if it is text, quote it twice, once for the shell: {shlex.quote(f"{key}='{inside}'")}"""
