"""Searches for the best facial-keypoint model your hardware can find."""

__version__ = "0.1.0"
