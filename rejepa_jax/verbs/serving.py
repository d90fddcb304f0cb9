"""The verb `rejepa serve`: a finished run as an API and a page."""

import argparse
import os
import pathlib

from rejepa_jax.verbs.arguments import Verb


def add_verbs(verb: Verb) -> None:
    """Adds the verb with `verb(name, act)`, which returns its parser."""
    parser = verb("serve", serve)
    add = parser.add_argument
    add("run", help="run directory or its URL")
    add("--host", default="127.0.0.1", help="address to bind (default 127.0.0.1: this machine)")
    add("--port", type=int, default=8080, help="default 8080; 0: a free one, which the log names")
    add(
        "--token_file",
        type=pathlib.Path,
        metavar="FILE",
        help="holds the token that requests need (or REJEPA_TOKEN); needed beyond this machine",
    )
    add("--records", type=pathlib.Path, help="where the records are, if not in the run")
    add("--max_body", type=int, default=32, metavar="MIB", help="of an upload (default 32)")
    add("--max_pixels", type=int, default=2**24, help="of an uploaded image (default 4096 x 4096)")
    add("--max_requests", type=int, default=64, help="answered at a time (default 64)")
    add("--drain_timeout", type=float, default=20.0, help="s for running requests at the end")


def serve(arguments: argparse.Namespace) -> int:
    """Serves a run until a signal ends it; returns the exit code."""
    from rejepa_jax.serve import app, batching, running, settings  # which take a second

    chosen = settings.Settings(
        host=arguments.host,
        port=arguments.port,
        token=settings.read_token(arguments.token_file, os.environ.get("REJEPA_TOKEN", "")),
        max_body=arguments.max_body * 2**20,
        max_pixels=arguments.max_pixels,
        max_requests=arguments.max_requests,
        drain_timeout=arguments.drain_timeout,
    )
    searcher = batching.BatchedSearcher(arguments.run, arguments.records)
    running.run(app.create_app(searcher, chosen), chosen)
    return 0
