"""The code that the Lambdas share: the record, decisions, events, errors and the tool decorator."""
