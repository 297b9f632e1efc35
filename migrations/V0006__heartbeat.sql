-- When this database was last seen by a running service: a start much later may have a clock that is wrong.
create table heartbeat (
    one     integer primary key check (one = 1),
    seen_at integer not null -- wall time, in milliseconds since the Unix epoch
);
