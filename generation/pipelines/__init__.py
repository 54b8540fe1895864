"""What a job does, as pipelines of distilabel, each to be read from top to bottom.

:mod:`~generation.pipelines.rows` makes rows and pairs, :mod:`~generation.pipelines.talks`
conversations, :mod:`~generation.pipelines.baseline` the base model's own answers. Steps of a user's
own go in by :mod:`~generation.pipelines.own_steps`. Importing any of them imports distilabel, which
takes seconds, so callers do it when a job starts.
"""

import sys
import warnings

# Distilabel 1.5.3 takes over how errors are printed, with the values of all variables, keys among
# them; and it warns of its own models.
_printed = sys.excepthook
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import distilabel.pipeline
    import distilabel.steps.tasks  # noqa: F401
sys.excepthook = _printed
# So does pydantic of every task that is made.
warnings.filterwarnings("ignore", message="The 'default' attribute with value None")
