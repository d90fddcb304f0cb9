"""The `rejepa` command over finished runs and files; it needs no config.

Searching (docs/searching.md)
rejepa search RUN IMAGE [-k 10] [--json]   the run's images most like this one, or like --id ID
rejepa serve RUN                           the same as a page and an API
rejepa add RUN IMAGE...                    more images into what is searched; delete, merge
rejepa score RANKING LABELS                any system's ranking by our metrics

Elsewhere
rejepa load RUN ENGINE TARGET              the embeddings into pgvector, Qdrant, Milvus, ...
rejepa export RUN OUT                      an encoder for use elsewhere: StableHLO, timm, a card
rejepa import FILE OUT                     another ViT's weights (I-JEPA, MAE, timm) as a bundle

Looking
rejepa compare RUN RUN [--out FILE]        runs evaluated alike, side by side on one page
rejepa duplicates PATH                     images that are, or look, the same in two splits
rejepa verify PATH                         re-read every byte of a run or of one artefact
rejepa inspect PATH                        what a config, a run, records, a shard or an archive is
rejepa doctor                              what this machine offers

Before training (docs/scaling.md)
rejepa plan CONFIG --topology v5e:2x4      does it fit, how fast might it be, what would it cost
"""

import argparse
import os
import select
import sys
from collections.abc import Callable, Sequence

from absl import flags, logging

from rejepa_jax.console import set_up_logging
from rejepa_jax.storage import mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.types import ConfigError, DataError
from rejepa_jax.verbs import loading, looking, planning, scoring, searching, serving, weights

KINDS = (searching, serving, scoring, loading, weights, looking, planning)
OF_CONFIGS = (looking.inspect, planning.plan)  # verbs that take settings too
UNHEARD = 141  # what a shell says of a program whose reader has gone
ADVICE: dict[type[OSError], str] = {
    FileNotFoundError: "something there; correct the path",
    FileExistsError: "nothing there; give another path",
    IsADirectoryError: "a file; give the path of one",
    NotADirectoryError: "a folder; correct the path",
    PermissionError: "the right to use it; change its rights, or give another path",
}


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    root = argparse.ArgumentParser("rejepa", description=__doc__.splitlines()[0])
    verbs = root.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=act.__doc__, description=act.__doc__)
        made.set_defaults(act=act)
        return made

    for kind in KINDS:
        kind.add_verbs(verb)
    return root


def _open_places(arguments: argparse.Namespace) -> None:
    """Makes paths of the arguments that may be URLs."""
    for name in ("run", "source", "path", "records"):
        if where := getattr(arguments, name, None):
            setattr(arguments, name, mirror.open_any(where))
    if hasattr(arguments, "runs"):
        arguments.runs = [mirror.open_run(where) for where in arguments.runs]


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code.

    0 done, 2 usage, 3 data or files, 75 a store is silent, 141 nobody reads the output any more.
    """
    flags.FLAGS.mark_as_parsed()  # absl's logging waits for it
    set_up_logging()
    arguments, settings = parser().parse_known_args(argv)
    unknown = [text for text in settings if not text.startswith("--config.")]
    if unknown or (settings and arguments.act not in OF_CONFIGS):
        parser().error(f"unknown arguments: {' '.join(unknown or settings)}")
    arguments.settings = settings
    try:
        _open_places(arguments)
        return arguments.act(arguments)
    except ConfigError as error:
        logging.error("%s", error)
        return 2
    except StoreError as error:
        logging.error("%s", error)
        return 75
    except DataError as error:
        logging.error("%s", error)
        return 3
    except OSError as error:
        return _tell(error)


def _tell(error: OSError) -> int:
    if isinstance(error, BrokenPipeError) and _is_unheard():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
        return UNHEARD
    logging.error("%s", _sentence(error))
    return 3


def _is_unheard() -> bool:
    """Whether the reader of our output, such as `head`, has gone."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _sentence(error: OSError) -> str:
    """Says what the system says of a file; what has no number of the system's is our own text."""
    if error.errno is None:
        return str(error)
    names = [str(name) for name in (error.filename2, error.filename) if name is not None]
    where = f"{names[0]}: " if names else ""
    expected = ADVICE.get(type(error), "the system to do it; mend that, then run again")
    return f"{where}got {error.strerror!r}, expected {expected}"


def run() -> None:
    """Entry point of the `rejepa` script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
