"""The endpoint: any OpenAI client may talk to a model that is run here."""
