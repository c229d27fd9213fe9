-- How far the changes of asks are in the journal: of the events in the history of an ask, how many.
-- What an ask of version 1 went through was recorded as it happened.
ALTER TABLE ask ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ask ADD COLUMN journaled INTEGER NOT NULL DEFAULT 0;
UPDATE ask SET events = json_array_length(history), journaled = json_array_length(history) WHERE json_valid(history);
CREATE INDEX ask_journaled ON ask (change) WHERE journaled < events;
