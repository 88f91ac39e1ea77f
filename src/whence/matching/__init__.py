"""Do two photos show the same thing? Local descriptors matched, and the geometry the matches agree
on."""
