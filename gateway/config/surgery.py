"""Cutting into the text of one YAML file by its marks, so that comments and order stay. Pure: text in, text out."""

import json
import re
from pathlib import Path

import yaml

from gateway.config.compose import BadFile, compose
from gateway.config.errors import one_mistake
from gateway.config.marks import dotted
from gateway.config.resolved import Key
from gateway.config.scalars import plain
