"""Images that a job asks for by ``--container-image``: Pyxis's importer, and each user's cache."""
