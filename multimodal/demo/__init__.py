"""The page: a model in the browser, without a network."""
