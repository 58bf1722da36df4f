-- A part of the time of what is staged. $start and $past: NULL leaves a side open.
SELECT count(*) AS rows, min(s.event_time) AS oldest, max(s.event_time) AS newest
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
WHERE ($start IS NULL OR s.event_time >= $start) AND ($past IS NULL OR s.event_time < $past);
