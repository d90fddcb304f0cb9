"""`rejepa score`: any system's hits, judged as our own are."""

import argparse
import json

from rejepa_jax.console import say
from rejepa_jax.retrieval.metrics import exports, sheet
from rejepa_jax.retrieval.metrics.protocol import RULES
from rejepa_jax.retrieval.metrics.scoring import Asked
from rejepa_jax.storage import mirror
from rejepa_jax.verbs.arguments import Verb


def score(arguments: argparse.Namespace) -> int:
    """Scores any system's hits, of a file or another export, by every metric."""
    asked = Asked(
        arguments.k,
        tuple(arguments.rule) or RULES,
        arguments.queries,
        arguments.gallery,
        arguments.keep_self,
        arguments.skip_unanswerable,
    )
    places = mirror.open_any(arguments.ranking), mirror.open_any(arguments.labels)
    scored = exports.score_files(*places, asked, arguments.one_space)
    as_json = json.dumps(sheet.to_json(scored), indent=1)
    say(as_json if arguments.json else sheet.to_text(scored))
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds `score` to the command line."""
    add = verb("score", score).add_argument
    add("ranking", help=".csv .tsv .parquet .trec .run .npz, or an export or run that asks LABELS")
    add("labels", help="export, run, or table with id, labels, split, place")
    add("-k", "--k", type=int, default=10, help="how many hits count (default 10)")
    add(
        "--rule",
        action="append",
        default=[],
        help="what is relevant: any_overlap, exact_set, jaccard>=T, single_label (repeatable)",
    )
    add("--queries", default="", help="the split that was asked, each of its images")
    add("--gallery", default="", help="the split that could be found (default: that of the hits)")
    add("--keep_self", action="store_true", help="an image that finds itself is a hit")
    add("--skip_unanswerable", action="store_true", help="queries that nothing is relevant to")
    add("--one_space", action="store_true", help="two exports' encoders were trained to agree")
    add("--json", action="store_true", help="print JSON instead of tables")
