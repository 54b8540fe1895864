"""Engines: what answers chats, behind one interface (:class:`engines.chats.Engine`)."""
