"""Do the laws notice? Breaks the core on purpose, one rule at a time, and expects core and oracle to disagree.

`python -m tests.mutations [--only WORDS] [--remember]` copies the tree, and for each mutation looks for a world
(`tests/laws/check.py`) that tells the broken core from the oracle. A mutation that nothing notices is a hole in the laws; one
whose old text is not in its file exactly once is out of date; and in every world that noticed one the core as it is must agree,
or the world notices nothing. Any of these makes the exit status 1.

`noticed.json` holds the seed of a world that noticed each mutation when it was last looked for. It is tried first, only to be
quicker; `--remember` writes down what was found this time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import Pool
from pathlib import Path

from tests.mutations import alerts, counts, policies, sources
from tests.mutations.child import AGREED, LIBRARIES, look
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).resolve().parent.parent.parent
NOTICED = Path(__file__).with_name("noticed.json")
MUTATIONS = (*sources.MUTATIONS, *counts.MUTATIONS, *policies.MUTATIONS, *alerts.MUTATIONS)
WORLDS = 450
"""Worlds that are tried before a mutation counts as survived."""

SURVIVED = "SURVIVED"
WORKERS = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    parser.add_argument("--only", default="", metavar="WORDS", help="those that break something whose words hold these")
    parser.add_argument("--remember", action="store_true", help=f"write the seeds that were found into {NOTICED.name}")
    options = parser.parse_args()
    mutations = [mutation for mutation in MUTATIONS if options.only in mutation.breaks]
    noticed: dict[str, int] = json.loads(NOTICED.read_text())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, context.Pool(WORKERS, maxtasksperchild=1) as pool:
        where = Path(directory)
        with ThreadPoolExecutor(WORKERS) as threads:
            found = threads.map(
                lambda item: _try(pool, where / str(item[0]), item[1], noticed.get(item[1].breaks)), enumerate(mutations)
            )
            caught = {}
            for mutation, verdict in zip(mutations, found, strict=True):
                if isinstance(verdict, int):
                    caught[mutation.breaks] = verdict
                said = f"caught by seed {verdict}" if isinstance(verdict, int) else verdict
                print(f"{mutation.file:20} {mutation.breaks}: {said}", flush=True)
        sound, worlds = str(_copy(where / "sound")), sorted(set(caught.values()))
        halves = [(sound, worlds[i::WORKERS]) for i in range(WORKERS)]
        unsound = [answer for answer in pool.starmap(look, halves, chunksize=1) if answer != AGREED]
    print(f"{len(caught)} of {len(mutations)} mutations caught in {time.monotonic() - started:.0f} s")
    if unsound:
        print(f"but core and oracle disagree without any mutation: {unsound}")
        return 1
    if options.remember:
        known = {mutation.breaks for mutation in MUTATIONS}
        kept = {breaks: seed for breaks, seed in sorted((noticed | caught).items()) if breaks in known}
        NOTICED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return 0 if len(caught) == len(mutations) else 1


def _try(pool: Pool, tree: Path, mutation: Mutation, first: int | None) -> int | str:
    """The seed of a world that notices a mutation, in a tree of its own, or what else becomes of it."""
    text = (ROOT / mutation.file).read_text()
    if (times := text.count(mutation.old)) != 1:
        return f"OUT OF DATE: the old text is there {times} times"
    (_copy(tree) / mutation.file).write_text(text.replace(mutation.old, mutation.new))
    verdict = AGREED if first is None else pool.apply(look, (str(tree), [first]))
    if verdict == AGREED:
        verdict = pool.apply(look, (str(tree), range(WORLDS)))
    shutil.rmtree(tree)
    if verdict == AGREED:
        return SURVIVED
    return verdict if isinstance(verdict, int) else f"BROKEN: {verdict}"


def _copy(tree: Path) -> Path:
    for part in ("geo", "streams", "tests/oracle", "tests/laws"):
        # Compiled loops are copied along: those of the file that is broken are made anew, for its time differs.
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.pyc"))
    return tree


if __name__ == "__main__":
    sys.exit(main())
