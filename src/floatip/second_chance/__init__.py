"""The process of the second chance: it lists connections, carries their packets between the nodes, and tells of both.

Nothing here is asynchronous: listing and loading 10,000 connections takes tens of milliseconds, which the daemon's loop
does not have.
"""
