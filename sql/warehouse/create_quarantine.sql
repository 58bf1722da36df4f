-- Refused rows as they were: line is that of a text file, or the row's number in Parquet or a JSON array, from 1.
CREATE TABLE IF NOT EXISTS quarantine (
    batch_id BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    line BIGINT NOT NULL,
    rules VARCHAR[] NOT NULL,
    record JSON NOT NULL
);
