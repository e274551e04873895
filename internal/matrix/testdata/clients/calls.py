"""The calls that every client makes, and how each prints what came back.

usage: CLIENT.py COMMAND ARG...   the command of a stdio server; INSIDE and OUTSIDE name a file each
"""
import os, sys

COMMAND, ARGS = sys.argv[1], sys.argv[2:]
# A client that is told nothing passes on what it thinks is harmless; these pass on all that they have.
ENV = dict(os.environ)
CALLS = [("read_it", {"path": os.environ["INSIDE"]}), ("read_it", {"path": os.environ["OUTSIDE"]}), ("environment", {})]


def say(tool, what):
    print(f"{tool}: {str(what)[:4000]}", flush=True)
