"""Is the whole public surface of the reference here?"""
