-- Asks and the people who answer them.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    change INTEGER NOT NULL,
    latest INTEGER NOT NULL
) STRICT;
INSERT INTO meta (one, change, latest) VALUES (1, 0, 0);
CREATE TABLE ask (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    grant_until INTEGER,
    is_window INTEGER NOT NULL,
    caller TEXT NOT NULL,
    bound_to TEXT NOT NULL,
    connection TEXT NOT NULL,
    digest BLOB NOT NULL,
    actions TEXT NOT NULL,
    what TEXT NOT NULL,
    risk TEXT NOT NULL,
    votes TEXT NOT NULL,
    history TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    change INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX ask_pending ON ask (bound_to, connection, digest) WHERE state = 'pending';
CREATE INDEX ask_key ON ask (bound_to, connection, digest, id);
CREATE INDEX ask_grant ON ask (bound_to, connection, grant_until) WHERE state = 'approved';
CREATE INDEX ask_waiting ON ask (caller, ends) WHERE state = 'pending';
CREATE INDEX ask_actions ON ask (actions, id);
CREATE INDEX ask_change ON ask (change);
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    member_of TEXT NOT NULL,
    seen INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 1;
