-- Which caller was let through with which actions, first.
CREATE TABLE first_seen (
    caller TEXT NOT NULL,
    actions TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (caller, actions)
) STRICT, WITHOUT ROWID;
