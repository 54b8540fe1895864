"""The shared language of the house: records, persona, store, errors, command line."""

import os

# Read by libgomp when torch loads it. Threads that wait for one another spin for a millisecond by
# default: beside another process on the same cores they nearly stop. Some 50 microseconds cost
# nothing that can be measured on a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
