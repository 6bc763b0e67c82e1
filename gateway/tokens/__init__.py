"""How long is a prompt, in its model's own tokens? Cheap bounds first; exact counts, off the loop, when those do not decide."""
