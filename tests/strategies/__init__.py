"""Do the parts in `etude.strategies` keep their word?"""
