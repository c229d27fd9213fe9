-- The tables of schema/*.sql for PostgreSQL. What may be long is not in a B-tree, whose entries are bounded; ids sort by their bytes.
CREATE TABLE meta (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    change BIGINT NOT NULL,
    latest BIGINT NOT NULL
);
INSERT INTO meta (one, change, latest) VALUES (1, 0, 0);
CREATE TABLE ask (
    id TEXT COLLATE "C" PRIMARY KEY,
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    grant_until BIGINT,
    is_window BIGINT NOT NULL,
    caller TEXT NOT NULL,
    bound_to TEXT NOT NULL,
    connection TEXT NOT NULL,
    digest BYTEA NOT NULL,
    actions TEXT NOT NULL,
    what TEXT NOT NULL,
    risk TEXT NOT NULL,
    votes TEXT NOT NULL,
    history TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    change BIGINT NOT NULL,
    events BIGINT NOT NULL DEFAULT 0,
    journaled BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX ask_pending ON ask (hashtextextended(bound_to, 0), connection, digest) WHERE state = 'pending';
CREATE INDEX ask_key ON ask (digest, id);
CREATE INDEX ask_grant ON ask (connection, grant_until) WHERE state = 'approved';
CREATE INDEX ask_waiting ON ask (ends) WHERE state = 'pending';
CREATE INDEX ask_actions ON ask USING hash (actions);
CREATE INDEX ask_change ON ask (change);
CREATE INDEX ask_journaled ON ask (change) WHERE journaled < events;
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    member_of TEXT NOT NULL,
    seen BIGINT NOT NULL
);
CREATE TABLE delivery (
    ask TEXT COLLATE "C" NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    last_error TEXT,
    PRIMARY KEY (channel, ask, event)
);
CREATE INDEX delivery_waiting ON delivery (channel, next_at) WHERE state = 'waiting';
CREATE INDEX delivery_created ON delivery (created);
CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    change BIGINT NOT NULL,
    last_success BIGINT,
    failing_since BIGINT,
    last_error TEXT,
    minute BIGINT NOT NULL,
    sent BIGINT NOT NULL
);
CREATE TABLE first_seen (
    caller TEXT NOT NULL,
    actions TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE UNIQUE INDEX first_seen_once ON first_seen (hashtextextended(caller, 0), hashtextextended(actions, 0));
CREATE INDEX first_seen_actions ON first_seen USING hash (actions);
CREATE TABLE revoked (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session TEXT UNIQUE,
    caller TEXT,
    at BIGINT NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    forget_after BIGINT,
    journaled BIGINT NOT NULL DEFAULT 0,
    CHECK ((session IS NULL) <> (caller IS NULL))
);
CREATE INDEX revoked_unjournaled ON revoked (number) WHERE journaled = 0;
CREATE TABLE login (
    id BYTEA PRIMARY KEY,
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    member_of TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX login_person ON login USING hash (person);
CREATE INDEX login_expires ON login (expires);
