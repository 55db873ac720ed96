"""Do the parts in `etude.memory` keep their word?"""
