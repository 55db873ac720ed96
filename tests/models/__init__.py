"""Do the parts in `etude.models` keep their word?"""
