"""Prosody: how long, how high and how loud each phone of a text is spoken (section 8.2)."""
