"""What is set for the whole process."""

import subprocess
import sys

LOADED = """
import gc, weakref
import pipeline.pipeline
from pipeline.process import set_loaded_aside

class Ring:
    def __init__(self):
        self.itself = self

lost = weakref.ref(Ring())
set_loaded_aside()
assert lost() is None, "what nobody holds any more is not kept for ever"
later = [[] for _ in range(100)]
print(gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_the_collector_need_not_look_at_what_was_loaded_before_the_run():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    aside, looked_at = map(int, done.stdout.split())
    assert looked_at < 2000 < 20_000 < aside
