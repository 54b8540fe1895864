"""The shared language of the house: records, persona, store, errors, command line."""

import os

# Read by libgomp when torch loads it: how often a thread that waits for another looks before it
# sleeps. By default that is 300,000 times, some 3 ms. A training step of the embedded model on two
# cores takes 3.5 s either way; with another training beside it 22 s by default, and 6.9 s so.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
