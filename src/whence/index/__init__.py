"""The index: the database folder (`store`) and what finds the most similar descriptors (`flat`,
`ann`).

It knows arrays, ids and content keys. Scanning and describing photos, and deciding when an index is
rebuilt, is done above.
"""
