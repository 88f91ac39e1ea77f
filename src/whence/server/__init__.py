"""The service: one endpoint and one page over databases. It needs the extra `server`; its client
does not."""
