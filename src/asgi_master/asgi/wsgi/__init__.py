"""What a WSGI application is given and what it may say (PEP 3333). Pure: no thread, socket or log."""
