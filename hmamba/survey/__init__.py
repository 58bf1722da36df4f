"""Inspect source files before a pull: recognise their columns, propose a configuration, predict refusals."""
