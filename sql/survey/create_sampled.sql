CREATE OR REPLACE TEMP TABLE sampled (user_id VARCHAR, item_id VARCHAR, moment TIMESTAMP, weight DOUBLE, type VARCHAR);
