-- Run once, when the volume of Postgres is new. Dagster's tables and the catalogue's each have a table of their own
-- migrations under the same name, so each has its own database.
CREATE DATABASE dagster;
CREATE DATABASE catalogue;
