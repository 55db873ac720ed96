"""Do the parts in `etude.report` keep their word?"""
