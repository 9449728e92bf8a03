"""Api: the front door. Reads the record, puts events on the bus, and writes nothing itself."""
