-- What the column says: when somebody asked, which is the instant up to which data goes.
ALTER TABLE purges COMMENT COLUMN asked_at 'when it was asked for: before_ms to the second';
