"""The synthetic world behind the tiny model: scenes, their pictures, and what is said of them."""
