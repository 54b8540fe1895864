"""A search engine for Argilla that answers from Argilla's own SQLite database.

Argilla's engines keep a copy of each record in Elasticsearch or OpenSearch. Here there is no copy
to get out of step: triggers in the same database keep a word table and a vector table, in the
transaction that writes the record, and every search is one SQL statement over the tables of
Argilla. Importing this package registers the engine under the name ``sqlite``.
"""

from engine.sqlite import SQLiteSearchEngine
from engine.tables import install

__all__ = ["SQLiteSearchEngine", "install"]
