-- Any value as naive UTC. Text and times without an offset are taken in the connection's time zone.
CREATE OR REPLACE TEMP MACRO read_time(value, format) AS
    CASE format
        WHEN 'epoch_s' THEN TRY(to_timestamp(TRY_CAST(CAST(value AS VARCHAR) AS DOUBLE)))
        WHEN 'epoch_ms' THEN TRY(to_timestamp(TRY_CAST(CAST(value AS VARCHAR) AS DOUBLE) / 1000))
        ELSE TRY_CAST(CAST(value AS VARCHAR) AS TIMESTAMPTZ)
    END AT TIME ZONE 'UTC';
