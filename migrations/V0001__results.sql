-- One row a result. Bodies are appended in row order behind a unique index on the key's hash: clustering
-- them by the hash would halve the puts. Columns that listings read come before those they do not.
create table results (
    row              integer primary key,
    id               blob    not null, -- BLAKE3-128 of namespace, url and variant
    namespace        text    not null,
    url              text    not null,
    variant          text    not null,
    host             text    not null,
    version          integer not null, -- hybrid logical clock
    etag             blob    not null, -- BLAKE3-128 of the content
    created_at       integer not null, -- milliseconds since the Unix epoch, as all times
    updated_at       integer not null,
    expires_at       integer not null,
    status_code      integer,
    success          integer,
    origin_etag      text,
    origin_modified  text,
    head_fingerprint text,
    raw_size         integer not null,
    stored_size      integer not null,
    layout           blob    not null, -- where each field lies in the body
    digest           blob    not null, -- XXH3-128 of id, etag, layout and body, checked on every read of the body
    body             blob    not null  -- one zstd frame
);

create unique index results_by_id on results (id);
create index results_by_time on results (namespace, updated_at);
create index results_by_host on results (namespace, host, updated_at);
create index results_by_expiry on results (expires_at);
-- The default variant is found by its hash; only the others need an index to be found by url.
create index results_by_variant on results (namespace, url) where variant <> '';

-- Sums over the tables, kept in the transactions that change them: counting a million rows takes too long.
create table totals (
    name  text    not null primary key,
    value integer not null
) without rowid;

insert into totals (name, value)
values ('entries', 0), ('stored_bytes', 0), ('raw_bytes', 0), ('sessions', 0), ('version', 0);
