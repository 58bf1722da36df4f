-- Events as the model takes them, at the times that they have.
CREATE OR REPLACE TEMP MACRO valued(end_time) AS TABLE SELECT * FROM meant(end_time);
