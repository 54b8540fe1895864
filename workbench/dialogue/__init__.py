"""Conversations with simulated users: who they are, and what they say next.

Generation has them talk to a teacher in persona, evaluation to every arm. ``users`` reads them,
``players`` plays them: by their own lines, or by a model with the roles swapped. Neither is ever
handed a persona.
"""
