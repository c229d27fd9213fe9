-- The tables of the store for SQLite. schema/postgres.sql has the same tables and columns; a test holds them together.
--
-- Times are milliseconds since 1970 in UTC. Booleans are 0 or 1: there is no boolean type that both engines have.

-- One row. `change_number` grows with every change of an approval request, across processes. `latest_time` is the latest time
-- that a process has noted.
CREATE TABLE meta (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    change_number INTEGER NOT NULL,
    latest_time INTEGER NOT NULL
) STRICT;
INSERT INTO meta (singleton, change_number, latest_time) VALUES (1, 0, 0);

-- `event_count` is the number of events in `history`; the first `journaled_count` of them are in the journal.
CREATE TABLE approval_request (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    hold_deadline INTEGER NOT NULL,
    vote_deadline INTEGER NOT NULL,
    grant_until INTEGER,
    is_time_bound INTEGER NOT NULL,
    caller TEXT NOT NULL,
    caller_binding TEXT NOT NULL,
    connection TEXT NOT NULL,
    digest BLOB NOT NULL,
    actions TEXT NOT NULL,
    details TEXT NOT NULL,
    risk TEXT NOT NULL,
    votes TEXT NOT NULL,
    history TEXT NOT NULL,
    attempt_count INTEGER NOT NULL,
    use_count INTEGER NOT NULL,
    change_number INTEGER NOT NULL,
    event_count INTEGER NOT NULL DEFAULT 0,
    journaled_count INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX approval_request_pending ON approval_request (caller_binding, connection, digest)
    WHERE state = 'pending';
CREATE INDEX approval_request_key ON approval_request (caller_binding, connection, digest, id);
CREATE INDEX approval_request_grant ON approval_request (caller_binding, connection, grant_until)
    WHERE state = 'approved';
CREATE INDEX approval_request_deadline ON approval_request (caller, vote_deadline) WHERE state = 'pending';
CREATE INDEX approval_request_actions ON approval_request (actions, id);
CREATE INDEX approval_request_change ON approval_request (change_number);
CREATE INDEX approval_request_unjournaled ON approval_request (change_number) WHERE journaled_count < event_count;

-- The people who may vote, with the groups that they had when they were last seen.
CREATE TABLE app_user (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    group_names TEXT NOT NULL,
    groups_as_of INTEGER NOT NULL
) STRICT;

-- The notifications: one row for each event of an approval request on each channel.
CREATE TABLE delivery (
    approval_request TEXT NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,
    last_error TEXT,
    PRIMARY KEY (channel, approval_request, event)
) STRICT;
CREATE INDEX delivery_waiting ON delivery (channel, next_at) WHERE state = 'waiting';
CREATE INDEX delivery_created ON delivery (created_at);

CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    change_number INTEGER NOT NULL,
    last_success INTEGER,
    failing_since INTEGER,
    last_error TEXT,
    minute_start INTEGER NOT NULL,
    sent_in_minute INTEGER NOT NULL
) STRICT;

-- When a caller was first permitted to take these actions.
CREATE TABLE first_seen (
    caller TEXT NOT NULL,
    actions TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (caller, actions)
) STRICT, WITHOUT ROWID;

-- A row revokes one session, or every session of a caller that had begun until then. `number` grows, across processes, and
-- AUTOINCREMENT gives no number twice: a process that remembers the last one it read misses no row.
CREATE TABLE revocation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT UNIQUE,
    caller TEXT,
    revoked_at INTEGER NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    delete_after INTEGER,
    journaled INTEGER NOT NULL DEFAULT 0,
    CHECK ((session IS NULL) <> (caller IS NULL))
) STRICT;
CREATE INDEX revocation_unjournaled ON revocation (number) WHERE journaled = 0;

-- The console logins of people. `id` is the SHA-256 of the cookie.
CREATE TABLE login (
    id BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    group_names TEXT NOT NULL,
    groups_as_of INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX login_user ON login (user_id);
CREATE INDEX login_expires ON login (expires_at);

PRAGMA user_version = 1;
