-- What is learned of hosts, where `results.learn_ttl` is on: how often their pages had changed when they were fetched again.

create table hosts (
    namespace text    not null,
    host      text    not null,
    visits    integer not null, -- fetches of pages that were there already
    changes   integer not null, -- those that found another content
    seconds   integer not null, -- between them and the fetches before them, in all
    seen_at   integer not null, -- the last one, in milliseconds since the Unix epoch: the sweep forgets hosts that nobody visits
    primary key (namespace, host)
) without rowid;

create index hosts_by_visit on hosts (seen_at);
