SELECT event_time FROM staged WHERE position % $stride = 0 AND event_time IS NOT NULL ORDER BY event_time;
