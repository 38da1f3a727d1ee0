"""Event log storages for Dagster that store a batch of events in one transaction. Loaded by dagster.yaml.

They rest on these internals of Dagster, and hand over to its own storages outside the versions in versions.py:

- `SqliteEventLogStorage` keeps a file per run and, in index.db, a copy of each event that is asked for across runs:
  events of `ASSET_EVENTS`, `ASSET_CHECK_EVENTS` and `EVENT_TYPE_TO_PIPELINE_RUN_STATUS`. Both have the same tables.
- `_event_to_row` gives the row of an event; `_store_asset_event_tags`, `_store_asset_event` and
  `store_asset_check_event` write what else belongs to one, the last by way of `index_connection`.
- `_store_asset_event` sets columns that depend on the type of the event and nothing else, so that of many events of
  one asset the last of each type is enough.
- An id of `event_logs` is the largest one plus one, as SQLite gives it where a table has no AUTOINCREMENT.
- `_initialized_dbs` names the files whose tables exist, and `_connect` makes them; `_db_lock` is held while a thread
  of this process is connected.
- `DagsterInstance.handle_new_event` gathers events into batches where `DAGSTER_EVENT_BATCH_SIZE` is set, and stores
  the events of a batch one by one after an error: an error must leave nothing of the batch behind.
"""

from marketpipe_assets.event_storage.sqlite import BatchedSqliteEventLogStorage

__all__ = ["BatchedSqliteEventLogStorage"]
