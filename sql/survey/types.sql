SELECT event_type, count(*) AS events FROM staged WHERE event_type <> '' GROUP BY event_type ORDER BY events DESC, event_type;
