-- What is sent to the people who may answer, and whether it arrived.
CREATE TABLE delivery (
    ask TEXT NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,
    last_error TEXT,
    PRIMARY KEY (channel, ask, event)
) STRICT;
CREATE INDEX delivery_waiting ON delivery (channel, next_at) WHERE state = 'waiting';
CREATE INDEX delivery_created ON delivery (created);
CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    change INTEGER NOT NULL,
    last_success INTEGER,
    failing_since INTEGER,
    last_error TEXT,
    minute INTEGER NOT NULL,
    sent INTEGER NOT NULL
) STRICT;
