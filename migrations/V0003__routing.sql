-- What a service that routes between this database and DynamoDB has to remember. All of it is empty, and nearly
-- free, where there is no DynamoDB.

-- What is older than the version of a tombstone is gone, wherever it turns up. With `deleted` that is the answer for
-- the key; without, only a limit to what the other side may answer.
create table tombstones (
    id         blob    not null primary key, -- as results.id, or that of a session
    version    integer not null,
    deleted    integer not null, -- 1 for a deletion, 0 for an entry that the other side was not told of
    expires_at integer not null  -- when nothing that it stops can be alive any more
) without rowid;

create index tombstones_by_expiry on tombstones (expires_at);

-- Writes that DynamoDB has yet to get: at most one a key, since the newest makes those before it superfluous. What is
-- written is what the key has when its turn comes.
create table outbox (
    seq         integer primary key, -- in the order in which they came
    id          blob    not null,
    kind        text    not null, -- result or session
    namespace   text    not null,
    name        text    not null, -- the url, or the id of the session
    variant     text    not null,
    version     integer not null,
    enqueued_at integer not null,
    due_at      integer not null, -- not before; later after each failure
    attempts    integer not null default 0,
    parked      integer not null default 0, -- 1: not tried any more until somebody says so
    error       text
);

create unique index outbox_by_id on outbox (id);
create index outbox_by_due on outbox (parked, due_at, seq);
-- How old the oldest is that waits.
create index outbox_by_age on outbox (enqueued_at) where parked = 0;

-- How keys are spread over the two sides: one row as soon as somebody has changed it.
create table routing (
    one        integer primary key check (one = 1),
    generation integer not null, -- grows with each change
    policy     text    not null, -- JSON
    changed_at integer not null
);

-- Who changed what and when, and what it was before.
create table routing_log (
    generation integer primary key,
    changed_at integer not null,
    who        text    not null,
    reason     text    not null,
    before     text    not null, -- JSON
    after      text    not null
);

-- Long work that goes on where it was left: migrations and verifications.
create table jobs (
    name       text    not null primary key,
    state      text    not null, -- JSON
    updated_at integer not null
) without rowid;

insert into totals (name, value) values ('outbox', 0), ('parked', 0);
