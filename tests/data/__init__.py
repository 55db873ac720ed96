"""Do the parts in `etude.data` keep their word?"""
