"""Do the parts in `etude.hub` keep their word?"""
