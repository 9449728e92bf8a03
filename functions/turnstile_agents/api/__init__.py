"""Api: the HTTP API. Reads the record, puts events on the bus, and writes nothing itself."""
