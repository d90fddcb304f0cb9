"""The command line and the job file: what they may say, read into one Job.

    launch/tpu.py VERB [NAME] [--job FILE.toml|FILE.json] [--SETTING=VALUE ...] [-- ARGUMENTS ...]

A flag has the last word over the job file; what follows `--` goes to rejepa_jax.main.
"""

import argparse
import dataclasses
import difflib
import json
import math
import pathlib
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from cloud.commands import LaunchError
from cloud.job import BACKENDS, Job

VERBS = {
    "check": "says what is missing before anything costs",
    "create": "asks for the machines",
    "setup": "puts the program on all hosts",
    "run": "starts the run, detached",
    "status": "says where all of it stands",
    "logs": "shows the log of the first host, or of all",
    "ssh": "opens a shell on the first host",
    "resume": "does all of this until the run is done, over preemptions (also: babysit)",
    "stop": "asks the run to save and end; the machines stay, and cost",
    "delete": "deletes all that create made",
    "local": "says how to run on this machine",
}
KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list of texts",
    dict: "a table of texts",
}
FIELDS = {field.name: field for field in dataclasses.fields(Job)}


@dataclasses.dataclass(frozen=True)
class Command:
    """What the operator wants."""

    verb: str
    job: Job
    flags: argparse.Namespace


def read(argv: Sequence[str]) -> Command:
    """Reads a command line.

    Raises:
        LaunchError: it says something unknown, or something that cannot be.
    """
    words, _, arguments = _split(argv)
    flags = _parser().parse_intermixed_args(words)
    verb = "resume" if flags.verb == "babysit" else flags.verb
    said = _read_job(pathlib.Path(flags.job)) if flags.job else {}
    said |= {
        key: value for key, value in vars(flags).items() if key in FIELDS and value is not None
    }
    if flags.set_env:
        said["env"] = said.get("env", {}) | dict(flags.set_env)
    if arguments:
        said["arguments"] = tuple(arguments)
    for key in ("name", "backend", "project", "zone"):
        if not said.get(key) and verb != "local":
            raise LaunchError(f"{key}: got nothing; give it, or set it in a --job file", 2)
    blank: dict[str, Any] = {
        "name": "local",
        "backend": "qr",
        "project": "nowhere",
        "zone": "no-where1-a",
    }
    return Command(verb, Job(**(blank | said if verb == "local" else said)), flags)


def _split(argv: Sequence[str]) -> tuple[list[str], str, list[str]]:
    words = list(argv)
    place = words.index("--") if "--" in words else len(words)
    return words[:place], "--", words[place + 1 :]


def _read_job(path: pathlib.Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        said = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise LaunchError(f"--job {path}: {error.strerror}", 2) from error
    except ValueError as error:
        raise LaunchError(f"--job {path}: {error}; expected TOML or JSON", 2) from error
    if not isinstance(said, dict):
        raise LaunchError(f"--job {path}: got {json.dumps(said)}, expected an object", 2)
    for key, value in said.items():
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LaunchError(f"{path}: there is no setting {key!r}{hint}", 2)
        said[key] = _typed(path, key, value)
    return said


def _typed(path: pathlib.Path, key: str, value: Any) -> Any:
    kind: Any = {"arguments": list, "env": dict}.get(key, FIELDS[key].type)
    if kind is float and type(value) is int:
        return float(value)
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    if type(value) is not kind or not all(isinstance(part, str) for part in parts):
        got = f"got {json.dumps(value, default=str)}"
        raise LaunchError(f"{path}: {key}: {got}, expected {KINDS[kind]}", 2)
    return tuple(value) if isinstance(value, list) else value


def _pair(text: str) -> tuple[str, str]:
    key, is_pair, value = text.partition("=")
    if not is_pair:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected KEY=VALUE")
    return key, value


def _at_least(kind: Callable[[str], float], low: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"got {text}, expected at least {low:g}")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:8} {what}" for verb, what in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="launch/tpu.py",
        description=f"Runs the road on Cloud TPUs. Verbs:\n{verbs}",
        epilog="What follows -- goes to rejepa_jax.main. docs/launching.md tells all of it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("verb", choices=[*VERBS, "babysit"], metavar="VERB")
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--job", metavar="FILE", help="settings, TOML or JSON; flags win")
    parser.add_argument("--dry_run", action="store_true", help="only print the commands")
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")
    parser.add_argument("--older_than", metavar="TIME", help="delete: only if that old (7d, 12h)")
    parser.add_argument(
        "--unmarked", action="store_true", help="delete: also what has no mark of ours"
    )
    parser.add_argument(
        "--delete_at_end", action="store_true", help="resume: delete, once the run has ended"
    )
    tries, period, stall = _at_least(int, 1), _at_least(float, 0.1), _at_least(float, 0)
    parser.add_argument("--tries", type=tries, default=10, help="resume: without a step more (10)")
    parser.add_argument("--period", type=period, default=60, help="resume: seconds, looks (60)")
    parser.add_argument(
        "--stall", type=stall, default=21600, help="resume: seconds, without a step; 0 never (6 h)"
    )
    parser.add_argument("--follow", action="store_true", help="logs: go on")
    parser.add_argument("--everywhere", action="store_true", help="logs: of all hosts")
    parser.add_argument("--via", choices=["kubectl", "xpk"], default="kubectl", help="gke")
    parser.add_argument("--manifest_out", default="", metavar="FILE", help="gke: run")
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--env", dest="set_env", action="append", type=_pair, metavar="KEY=VALUE")
    for key, field in FIELDS.items():
        if key in ("name", "backend", "arguments", "env"):
            continue
        if field.type is bool:
            parser.add_argument(f"--{key}", action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(f"--{key}", type=field.type)
    return parser
