-- One row a session. The body is the whole session as JSON, its history included; the columns beside it are
-- what is searched. Secrets inside the body are sealed where a key is configured.
create table sessions (
    row        integer primary key,
    namespace  text    not null,
    id         text    not null,
    project_id text,
    status     text    not null,
    created_at integer not null, -- milliseconds since the Unix epoch, as all times
    expires_at integer not null,
    version    integer not null,
    body       blob    not null
);

create unique index sessions_by_id on sessions (namespace, id);
create index sessions_by_project on sessions (namespace, project_id, created_at) where project_id is not null;
create index sessions_by_status on sessions (namespace, status, expires_at);
create index sessions_by_expiry on sessions (expires_at);
