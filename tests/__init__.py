"""The test suites of étude."""
