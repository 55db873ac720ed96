"""Do the parts in `etude.trackers` keep their word?"""
