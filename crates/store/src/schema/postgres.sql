-- The tables of the store for PostgreSQL. schema/sqlite.sql has the same tables and columns; a test holds them together.
--
-- Times are milliseconds since 1970 in UTC. Booleans are 0 or 1: there is no boolean type that both engines have.
-- Ids are collated by their bytes, so that they sort as in SQLite. An entry of a B-tree may hold some 2,700 bytes (a third of a
-- page), and an insert of more fails; so values that a caller can make long are indexed by a hash.

-- One row. `change_number` grows with every change of an approval request, across processes. `latest_time` is the latest time
-- that a process has noted.
CREATE TABLE meta (
    singleton BIGINT PRIMARY KEY CHECK (singleton = 1),
    change_number BIGINT NOT NULL,
    latest_time BIGINT NOT NULL
);
INSERT INTO meta (singleton, change_number, latest_time) VALUES (1, 0, 0);

-- `event_count` is the number of events in `history`; the first `journaled_count` of them are in the journal.
CREATE TABLE approval_request (
    id TEXT COLLATE "C" PRIMARY KEY,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    hold_deadline BIGINT NOT NULL,
    vote_deadline BIGINT NOT NULL,
    grant_until BIGINT,
    is_time_bound BIGINT NOT NULL,
    caller TEXT NOT NULL,
    caller_binding TEXT NOT NULL,
    connection TEXT NOT NULL,
    digest BYTEA NOT NULL,
    actions TEXT NOT NULL,
    details TEXT NOT NULL,
    risk TEXT NOT NULL,
    votes TEXT NOT NULL,
    history TEXT NOT NULL,
    attempt_count BIGINT NOT NULL,
    use_count BIGINT NOT NULL,
    change_number BIGINT NOT NULL,
    event_count BIGINT NOT NULL DEFAULT 0,
    journaled_count BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX approval_request_pending ON approval_request (hashtextextended(caller_binding, 0), connection, digest)
    WHERE state = 'pending';
CREATE INDEX approval_request_key ON approval_request (digest, id);
CREATE INDEX approval_request_grant ON approval_request (connection, grant_until) WHERE state = 'approved';
CREATE INDEX approval_request_deadline ON approval_request (vote_deadline) WHERE state = 'pending';
CREATE INDEX approval_request_actions ON approval_request USING hash (actions);
CREATE INDEX approval_request_change ON approval_request (change_number);
CREATE INDEX approval_request_unjournaled ON approval_request (change_number) WHERE journaled_count < event_count;

-- The people who may vote, with the groups that they had when they were last seen.
CREATE TABLE app_user (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    group_names TEXT NOT NULL,
    groups_as_of BIGINT NOT NULL
);

-- The notifications: one row for each event of an approval request on each channel.
CREATE TABLE delivery (
    approval_request TEXT COLLATE "C" NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    attempt_count BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    last_error TEXT,
    PRIMARY KEY (channel, approval_request, event)
);
CREATE INDEX delivery_waiting ON delivery (channel, next_at) WHERE state = 'waiting';
CREATE INDEX delivery_created ON delivery (created_at);

CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    change_number BIGINT NOT NULL,
    last_success BIGINT,
    failing_since BIGINT,
    last_error TEXT,
    minute_start BIGINT NOT NULL,
    sent_in_minute BIGINT NOT NULL
);

-- When a caller was first permitted to take these actions.
CREATE TABLE first_seen (
    caller TEXT NOT NULL,
    actions TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX first_seen_once ON first_seen (hashtextextended(caller, 0), hashtextextended(actions, 0));
CREATE INDEX first_seen_actions ON first_seen USING hash (actions);

-- A row revokes one session, or every session of a caller that had begun until then. `number` grows, across processes, and
-- no number is given twice: a process that remembers the last one it read misses no row.
CREATE TABLE revocation (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session TEXT UNIQUE,
    caller TEXT,
    revoked_at BIGINT NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    delete_after BIGINT,
    journaled BIGINT NOT NULL DEFAULT 0,
    CHECK ((session IS NULL) <> (caller IS NULL))
);
CREATE INDEX revocation_unjournaled ON revocation (number) WHERE journaled = 0;

-- The console logins of people. `id` is the SHA-256 of the cookie.
CREATE TABLE login (
    id BYTEA PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    group_names TEXT NOT NULL,
    groups_as_of BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX login_user ON login USING hash (user_id);
CREATE INDEX login_expires ON login (expires_at);
