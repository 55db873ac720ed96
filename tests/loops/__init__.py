"""Do the parts in `etude.loops` keep their word?"""
