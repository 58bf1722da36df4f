SELECT
    s.file,
    count(*) FILTER (WHERE was_considered(s.event_time, w.start, w.refused_from)) AS known_rows,
    count(*) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS left_rows,
    min(s.event_time) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS first_left,
    max(s.event_time) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS last_left
FROM staged AS s
INNER JOIN windows AS w ON s.file = w.file
GROUP BY s.file;
