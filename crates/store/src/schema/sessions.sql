-- Sessions that were revoked, and the sign-ins of people.
-- A row of `revoked` is one session, or every session of a caller that began until then. `number` grows, across processes.
CREATE TABLE revoked (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT UNIQUE,
    caller TEXT,
    at INTEGER NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    forget_after INTEGER,
    journaled INTEGER NOT NULL DEFAULT 0,
    CHECK ((session IS NULL) <> (caller IS NULL))
) STRICT;
CREATE INDEX revoked_unjournaled ON revoked (number) WHERE journaled = 0;
CREATE TABLE login (
    id BLOB PRIMARY KEY,
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    member_of TEXT NOT NULL,
    as_of INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX login_person ON login (person);
CREATE INDEX login_expires ON login (expires);
