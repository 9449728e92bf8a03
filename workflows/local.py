"""A stack on this machine, ready to use: the embedded engine, the scripted model, flights, and the sample agent."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
