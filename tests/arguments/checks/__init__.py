"""Does each check refuse what it should?"""
