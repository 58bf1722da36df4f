-- Types of events in the warehouse that [events] does not name.
SELECT DISTINCT event_type FROM interactions ANTI JOIN meanings USING (event_type) WHERE event_time < $end_time ORDER BY event_type;
