"""The infer room: batches frames of all streams fairly and runs them in the engine's slots."""
