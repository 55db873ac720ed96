"""Do the parts in `etude.guards` keep their word?"""
