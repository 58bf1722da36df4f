-- The catalogue's rows as they are read: the last of an id wins. levels: from the widest category to the narrowest.
-- is_text: title and levels are text, or absent.
CREATE OR REPLACE TEMP TABLE catalogue (
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    item_id VARCHAR,
    title VARCHAR,
    levels VARCHAR[],
    is_text BOOLEAN
);
