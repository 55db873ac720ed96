"""Do the parts in `etude.arguments` keep their word?"""
