"""Do the parts in `etude.callbacks` keep their word?"""
