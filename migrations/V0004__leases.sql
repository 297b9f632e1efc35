-- Which crawler of a fleet fetches which page: the last grant of each key, and how it ended. A row stays for an hour
-- after its end, so that a holder who comes too late is told so, and then the sweep takes it.
create table leases (
    id         blob    not null primary key, -- as results.id, whether there is a result or not
    namespace  text    not null,
    secret     blob    not null, -- what only the holder was told
    fence      integer not null, -- the version under which the holder writes
    granted_at integer not null, -- milliseconds since the Unix epoch, as all times
    until      integer not null,
    state      text    not null  -- held, stored or released
) without rowid;

create index leases_by_end on leases (until);
