SELECT max(event_time) AS event_time FROM interactions;
