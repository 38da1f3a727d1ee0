"""Event log storages for Dagster that store a batch of events in one transaction. Loaded by dagster.yaml.

They rest on these internals of Dagster, and hand over to its own storages outside the versions in versions.py:

- `SqliteEventLogStorage` keeps a file per run and, in index.db, a copy of each event that is asked for across runs:
  events of `ASSET_EVENTS`, `ASSET_CHECK_EVENTS` and `EVENT_TYPE_TO_PIPELINE_RUN_STATUS`. Both have the same tables.
  `PostgresEventLogStorage` keeps all events in one table.
- `_event_to_row` gives the row of an event, with `serialize_value` of it as its text and `_event_insert_timestamp` as
  its moment; `_store_asset_event` and `store_asset_check_event` write what else belongs to an event, the latter by way
  of `index_connection`, and `asset_event_tags` has the tags that `get_asset_tags_to_index` names.
- The events a run stores for every partition hold `AssetMaterializationPlannedData` or `StepMaterializationData`, and
  differ in moment, partition and the tags below `MULTIDIMENSIONAL_PARTITION_PREFIX`. Others are serialised as Dagster
  does, and so is one whose text a form of ours did not give to the byte.
- `_store_asset_event` sets columns that depend on the type of the event and nothing else, so that of many events of
  one asset the last of each type is enough.
- In SQLite an id of `event_logs` is the largest one plus one, as it gives where a table has no AUTOINCREMENT; in
  Postgres it comes from the sequence of the column. Who reads across runs asks for ids above the last one seen.
- In SQLite `_initialized_dbs` names the files whose tables exist, and `_initdb` makes them: all of
  `SqlEventLogStorageMetadata`, with alembic's newest revision. `run_connection` and `index_connection` call `_connect`,
  and `_db_lock` is held while a thread of this process is connected. `has_table` is also called under that lock. Who
  follows a run watches its file, not that of its WAL.
- In Postgres `_connect` gives a connection, and the driver is psycopg2. Stock sends a NOTIFY for each event, which
  nothing has listened to since Dagster polls.
- `DagsterInstance.handle_new_event` gathers events into batches where `DAGSTER_EVENT_BATCH_SIZE` is set, and stores
  the events of a batch one by one after an error: an error must leave nothing of the batch behind.

postgres.py is imported by its own name, since dagster-postgres is an extra.
"""

from marketpipe_assets.event_storage.sqlite import BatchedSqliteEventLogStorage

__all__ = ["BatchedSqliteEventLogStorage"]
