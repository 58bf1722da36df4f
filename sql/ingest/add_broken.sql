-- chunk: positions in the staged batch.
INSERT INTO broken SELECT position, $rule FROM chunk;
