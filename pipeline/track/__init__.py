"""Identities: gives the objects of one stream the same track id from frame to frame."""

from pipeline.track.tracker import (
    CARRIED,
    CONFIRMED,
    TENTATIVE,
    TRACKERS,
    Tracker,
    Tracks,
    open_tracker,
    update_many,
)

__all__ = ["CARRIED", "CONFIRMED", "TENTATIVE", "TRACKERS", "Tracker", "Tracks", "open_tracker", "update_many"]
