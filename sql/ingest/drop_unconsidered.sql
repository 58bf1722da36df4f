DELETE FROM staged AS s
USING windows AS w
WHERE
    s.file = w.file
    AND (
        was_considered(s.event_time, w.start, w.refused_from)
        OR is_left(s.event_time, $past, w.refused_from)
    );
