"""From a database of photos to an answer: build, retrieve, position. What `Localizer` is made
of."""
