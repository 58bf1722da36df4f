-- Every file a pull took in. kind: interactions or catalogue. state: loaded, or duplicate of a loaded content.
CREATE TABLE IF NOT EXISTS batch_files (
    batch_id BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    state VARCHAR NOT NULL
);
