"""Do the parts in `etude.checkpoint` keep their word?"""
