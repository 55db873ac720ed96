"""Do the parts in `etude.core` keep their word?"""
