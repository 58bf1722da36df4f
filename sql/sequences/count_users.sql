SELECT count(DISTINCT user_id) AS users FROM interactions WHERE event_time < $end_time;
