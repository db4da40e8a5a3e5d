"""A rig: the program that receives the messages of an experiment, does the work, and answers."""

from .rig import Rig

__all__ = ['Rig']
