"""Do the parts in `etude.optim` keep their word?"""
