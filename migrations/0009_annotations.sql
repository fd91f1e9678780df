-- What hooks print as `::error::`, `::warning::` and `::notice::` is a chunk of its own, with that word as its source.
CREATE INDEX chunks_annotations ON chunks (deployment, first_seq) WHERE source IN ('error', 'warning', 'notice');
