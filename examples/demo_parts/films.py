"""The announcement's example: the two programs beside the demo, run as its users would run them."""

import json
import subprocess
import sys
from pathlib import Path

from demo_parts.screen import bold
from demo_parts.server import Server, environment_without_aws

FOLDER = Path(__file__).parents[1]


def run_program(server: Server, name: str) -> str:
    """Runs a program that knows nothing of Whimbrel, with the variables of `whimbrel env`; returns what it prints."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)],
        env=environment_without_aws() | server.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return done.stdout


def show_films(server: Server) -> None:
    """Stores three films, asks for adventures in space, and fails unless it is Star Wars."""
    print(f"  examples/films_put.py    {run_program(server, 'films_put.py').strip()}")
    found = json.loads(run_program(server, "films_query.py"))
    print(f"  examples/films_query.py  {bold('List the movies about adventures in space')}")
    for hit in found:
        print(f"    {hit['distance']:.4f}  {hit['key']:<14}  {hit['metadata']['source_text']}")
    genres = [hit["metadata"]["genre"] for hit in found]
    if found[0]["key"] != "Star Wars" or genres != ["scifi", "scifi"]:
        sys.exit(f"the films are not the right ones: {found}")
