"""moto answers by name in all unit tests: otherwise it spends a third of its time on other spellings."""

from turnstile_cli.engines.strict_child import answer_by_name

answer_by_name()
