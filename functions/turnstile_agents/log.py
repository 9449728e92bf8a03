"""The logger of every Lambda: one JSON line per event, with the request's id."""

from aws_lambda_powertools import Logger

logger = Logger(service="turnstile")
