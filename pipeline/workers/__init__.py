"""Worker processes: each runs an ordinary pipeline on its share of the streams; their parent owns every endpoint."""
