-- Which crawler of a fleet fetches which page: the last grant of each key, and how it ended. The sweep
-- takes a row when its holder has no use for it any more: minutes after it was ended, an hour after it ran out.
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
