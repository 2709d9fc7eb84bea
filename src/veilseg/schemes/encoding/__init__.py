"""Privacy-SF: encoded image to encoded mask."""
