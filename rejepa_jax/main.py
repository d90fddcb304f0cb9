"""The whole road from one command.

    python -m rejepa_jax.main --config configs/quickstart.py[:PRESET] [--workdir DIR]
        [--stage NAME,...] [--strict_restore] [--config.key=value ...]
        [--coordinator_address HOST:PORT --num_processes N --process_id I | --distributed]

Walks from the archive to the report and skips every stage that is complete and unchanged. A `.py`
config runs as code; a `.json` file of settings is read as data only. Several processes, given the
same command but for their number, are one run (docs/processes.md). Exit codes: 0 done, 1 training
failed, 2 usage or settings, 3 data, 75 interrupted, or a store does not answer: run it again.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Sequence

import jax
from absl import flags, logging
from ml_collections import config_dict, config_flags

from rejepa_jax import artifacts, joining, processes, stages
from rejepa_jax.config import Config, base_config
from rejepa_jax.console import say, set_up_logging
from rejepa_jax.resolve import resolve
from rejepa_jax.storage import lease, mirror
from rejepa_jax.storage.readers import is_remote
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.training.health import CollapseError
from rejepa_jax.types import ConfigError, DataError, Interrupted

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run directory, or its URL in a bucket; default runs/<name of the config>."
)
STAGE = flags.DEFINE_list("stage", list(stages.STAGES), "Stages to run, in the road's order.")
STRICT = flags.DEFINE_bool(
    "strict_restore", False, "Refuse a damaged checkpoint instead of taking an earlier one."
)


def parse_flags(argv: Sequence[str]) -> str:
    """Fills the flags from the command line; returns the config's name.

    Raises:
        ConfigError: a flag or a setting does not exist, or has a value of the wrong type.
    """
    name, rest = define_config(argv)
    try:
        stray = flags.FLAGS(rest)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"command line: {error}") from error
    if stray:
        raise ConfigError(f"command line: {stray[0]!r} is no flag; write --config.key=value")
    return name


def define_config(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Defines `--config`; returns the config's name, and the arguments that are left to parse.

    A JSON file is read here, as data, over the defaults; a Python file is left to the flag.
    """
    heads = [argument.lstrip("-").split("=", 1) for argument in argv]
    places = [place for place, head in enumerate(heads) if head[0] == "config"]
    if not places:
        raise ConfigError("no --config; try --config configs/quickstart.py")
    place = places[-1]
    has_value = len(heads[place]) == 2
    path = heads[place][1] if has_value else "".join(argv[place + 1 : place + 2])
    file, _, preset = path.partition(":")  # of a Python file: what its get_config is given
    if not pathlib.Path(file).is_file() or (preset and file.endswith(".json")):
        raise ConfigError(f"--config {path}: no such file; configs/ holds those that come with us")
    if path.endswith(".json"):
        rest = [*argv[:place], *argv[place + (1 if has_value else 2) :]]
        config = read_json_config(pathlib.Path(path))
        config_flags.DEFINE_config_dict("config", config, sys_argv=rest)
    else:
        rest = list(argv)
        config_flags.DEFINE_config_file("config", sys_argv=rest)
    return "_".join(filter(None, (pathlib.Path(file).stem, preset))), rest


def read_json_config(path: pathlib.Path) -> config_dict.ConfigDict:
    """Reads a JSON object of settings over the defaults; no code runs.

    Raises:
        ConfigError: it is not JSON, or names a setting that does not exist.
    """
    config = base_config().lock()
    try:
        config.update(json.loads(path.read_text()))
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: {error}; expected a JSON object of known settings") from error
    return config


def go(name: str) -> None:
    """Walks the road that the flags ask for, in the run directory of a config of this name."""
    config, where = flags.FLAGS.config, WORKDIR.value or f"runs/{name}"
    if STRICT.value:
        config.train.strict_restore = True
    if not processes.is_main() and is_remote(where):  # on the main one's machine, perhaps
        os.environ[mirror.CACHE] = str(mirror.cache() / f"process-{processes.index()}")
    run = mirror.open_run(where)
    with lease.hold(run) if processes.is_main() else contextlib.nullcontext():
        walk(resolve(config), run, STAGE.value)
        if processes.is_main():
            summarise(run)


def walk(config: Config, run: pathlib.Path, names: Sequence[str]) -> None:
    """Runs the named stages in the road's order."""
    unknown = sorted(set(names) - set(stages.STAGES))
    if unknown:
        raise ConfigError(f"--stage {unknown[0]!r}: choose from {', '.join(stages.STAGES)}")
    run.mkdir(parents=True, exist_ok=True)
    for name in stages.STAGES:
        if name in names:
            start = time.monotonic()
            if not processes.is_main():
                mirror.renew(run)  # has what the main one has published
            run_stage(name, config, run)
            logging.info("stage %s took %.1f s", name, time.monotonic() - start)


def run_stage(name: str, config: Config, run: pathlib.Path) -> None:
    """Runs a stage; a full disk, and whatever else the system refuses, is told with the place.

    Raises:
        DataError: that.
    """
    try:
        stages.STAGES[name](config, run)
    except FileNotFoundError:
        raise
    except OSError as error:
        free = shutil.disk_usage(run).free / 1e9
        raise DataError(
            f"stage {name}: {error}; {free:.3g} GB are free in {run}. What is finished is kept: "
            "mend that, and run the same command again to go on"
        ) from error


def summarise(run: pathlib.Path) -> None:
    """Says where everything is and what to type next."""
    done = [path for path in sorted(run.iterdir()) if (path / artifacts.MANIFEST).exists()]
    where = mirror.address(run)
    if run / "evaluation" in done:
        artifacts.load(run / "evaluation")
        say("\n" + (run / "evaluation" / "table.txt").read_text())
    say(f"{where}: " + ", ".join(path.name for path in done))
    if run / "report" in done:
        artifacts.load(run / "report")
        say(f"look at   {run / 'report' / 'report.html'}")
    if run / "index" in done:
        say(f"search    rejepa search {where} IMAGE -k 10")
    say(f"check     rejepa verify {where}")


def main(argv: Sequence[str]) -> int:
    """Parses the command line, walks the road, returns the exit code."""
    set_up_logging()
    try:
        name = parse_flags(argv)
        joining.join(joining.asked())
        if not jax.distributed.is_initialized():  # which has SIGTERM then
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ConfigError as error:
        return processes.give_up(error, 2)
    if not processes.is_main():
        logging.set_verbosity(logging.WARNING)  # the main process talks
    with processes.ending_together():
        return _code(name)


def _code(name: str) -> int:
    """Walks the road; returns the exit code that goes with the error, if there is one."""
    try:
        go(name)
    except ConfigError as error:
        return processes.give_up(error, 2)
    except (DataError, FileNotFoundError) as error:
        return processes.give_up(error, 3)
    except (FloatingPointError, CollapseError) as error:
        return processes.give_up(error, 1)
    except StoreError as error:
        return processes.give_up(error, 75)
    except Interrupted as error:
        processes.wait_for_all("stopped")  # each has its part of what is saved still to finish
        return processes.give_up(error, 75)
    except KeyboardInterrupt:
        return processes.give_up("interrupted; run the same command again to go on", 75)
    except jax.errors.JaxRuntimeError as error:
        if not processes.is_lost(error):
            raise
        return processes.give_up(f"{error}: is another process gone? Run again", processes.LOST)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
