"""The run-time type checker of the tests: beartype, to which an int is a float, as it is to Python."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
