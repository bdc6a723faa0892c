"""What a worker compiles before it joins its group is all that its first records need."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: other tests call the loops with whatever they please.
PROGRAM = """
import numpy as np
from geo import idtable, rest, source, ticks
from streams import batches, flat_json_loop, pings
from streams.preparing import prepare
from tests.geo.story import epoch, timeline

loops = (idtable._hash, idtable._look_up, ticks._newest, rest._pass_over, batches._walk, flat_json_loop.read)
prepare(timeline(epoch()))
before = [len(loop.signatures) for loop in loops]
decoder, state = pings.PingDecoder(pings.Feed("pings", None), timeline(epoch())), source.Source(0, timeline(epoch()))
for minute in range(20):
    ms = 1_700_000_000_000 + 60_000 * minute
    values = [b'{"bike_id":"b%d","operator":"alfa","ts":%d,"lat":%d.5,"lng":2.25}' % (i, ms, minute // 7) for i in range(900)]
    values = [None, *values[:-1], b"junk", *values]
    at = np.arange(len(values)) + minute * len(values)
    state.add(decoder.decode(batches.Batch.of(values, np.full(len(values), ms), at))[0])
print(before, [len(loop.signatures) for loop in loops])
"""


def test_every_loop_is_compiled_for_the_one_kind_of_arguments_that_it_will_get() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{[1] * 6} {[1] * 6}"
