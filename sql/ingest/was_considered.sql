-- Whether an earlier pull has considered a row. start: the end of the last day whose rows of the file were; NULL if the
-- file has never been read.
CREATE OR REPLACE TEMP MACRO was_considered(event_time, start, refused_from) AS
    start IS NOT NULL AND coalesce(event_time < start OR event_time >= refused_from, true);
