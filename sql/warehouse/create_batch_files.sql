-- Every file a pull took in. kind: interactions or catalogue. state: loaded; partial, if rows of later days are left in it;
-- or duplicate of a content that was taken in under another name. rows: those that the pull considered.
-- read_through and refused_from: of a partial file, the last day whose rows have been considered, and the time from which
-- on rows were refused when it was first read. read_as: of the catalogue, a digest of the settings by which it was read.
CREATE TABLE IF NOT EXISTS batch_files (
    batch_id BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    state VARCHAR NOT NULL,
    rows_left BIGINT DEFAULT 0,
    read_through DATE,
    refused_from TIMESTAMP,
    read_as VARCHAR
);
